"""The pass for many models by Triton's kernels, against the reference in float64: one kernel, and blocks of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from budget import BF16, F16, F32, F64, FLOAT32_SHARE, FLOAT64_SHARE, ROW_ROUNDING
from launches import counted_launches
from torch import Tensor

from flashlogit.reference import models as reference
from flashlogit_kernels.models import NO_FOLD, Models, ModelSums, missing_code

pytest.importorskip("triton")

from flashlogit_kernels.gpu import models as gpu_models
from flashlogit_kernels.gpu.models import ModelsLaunch


@dataclass
class Case:
    """Arguments of a pass; weights are float64, and rounded to the arithmetic's dtype."""

    X: Tensor
    models: Models
    weight: Tensor
    bias: Tensor
    options: dict[str, Any]

    def run(self, passes: Any, compute: torch.dtype, **more: Any) -> ModelSums:
        rounded = self.weight.float().to(compute), self.bias.float().to(compute)
        given = {k: v.float().to(compute) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return passes.models_onepass(self.X, self.models, *rounded, **given, **more)


def made(
    N: int,
    D: int,
    K: int,
    *,
    C: int = 1,
    targets: int = 1,
    folds: int = 1,
    storage: torch.dtype = F32,
    weights: torch.dtype | None = None,
    ordered: bool = False,
    center: bool = False,
    along: bool = False,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Case:
    g = torch.Generator().manual_seed(N + D + K)
    mean = 3.0 if center else 0.0
    codes = torch.randint(max(2, C), (targets, N), generator=g, dtype=torch.int16 if C > 255 else torch.uint8)
    codes[torch.rand(targets, N, generator=g) < 0.1] = missing_code(codes)
    some_folds = torch.randint(5, (folds, N), generator=g, dtype=torch.uint8)
    held = torch.randint(6, (K,), generator=g, dtype=torch.int32)
    held[held == 5] = NO_FOLD
    of = [torch.randint(each, (K,), generator=g, dtype=torch.int32) for each in (targets, folds)]
    s = None if weights is None else torch.rand(N, generator=g, dtype=weights)
    X = (torch.randn(N, D, generator=g) + mean).to(storage)
    weight, bias = torch.randn(D, K * C, generator=g) / D**0.5, torch.randn(K * C, generator=g)
    if center:
        options["center"] = torch.full((D,), mean) + 0.1 * torch.rand(D, generator=g)
    if along:
        options["along"] = torch.randn(K * C, generator=g)
    models = Models(codes, some_folds, *of, held, ordered=ordered, sample_weight=s, classes=C)
    return on(device, Case(X, models, weight.double(), bias.double(), options))


def on(device: torch.device | str, case: Case) -> Case:
    names = ("codes", "folds", "target_of", "fold_of", "held", "sample_weight")
    tensors = {name: getattr(case.models, name) for name in names}
    moved = {name: None if each is None else each.to(device) for name, each in tensors.items()}
    options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in case.options.items()}
    models = replace(case.models, **moved)
    return Case(case.X.to(device), models, case.weight.to(device), case.bias.to(device), options)


def sizes(case: Case, exact: ModelSums) -> dict[str, Tensor]:
    """Sums of absolute terms: of the losses, which are positive, what they are; of others, for each column of W."""
    m, K, C = case.models, case.models.count, case.models.classes
    X = case.X.double() - case.options.get("center", torch.zeros(())).double().to(case.X.device)
    z = (X @ case.weight.float().double() + case.bias.float().double()).view(-1, K, C)
    y, e = m.codes[m.target_of.long()].t(), m.folds[m.fold_of.long()].t()
    trains = (y != m.missing) & ((e < m.held) if m.ordered else (e != m.held))
    s = (torch.ones_like(z[:, 0, 0]) if m.sample_weight is None else m.sample_weight.double())[:, None, None]
    y = torch.where(y == m.missing, 0, y).long()[..., None]
    p = torch.sigmoid(z) if C == 1 else torch.softmax(z, dim=2)
    labels = y.double() if C == 1 else torch.zeros_like(z).scatter(2, y, 1.0)
    r = torch.where(trains[..., None], s * (p - labels).abs(), 0.0).reshape(-1, K * C)
    t = case.options.get("along", torch.ones(K * C)).to(z).view(K, C).abs()
    v = torch.where(trains[..., None], s * p * (1 - p if C == 1 else 1) * t.sum(dim=1, keepdim=True), 0.0)
    v = v.reshape(-1, K * C)
    return {
        "loss": exact.loss, "held_loss": exact.held_loss, "weight_grad": X.abs().t() @ r, "bias_grad": r.sum(dim=0),
        "border": X.abs().t() @ v, "corner": v.sum(dim=0), "second": v.sum(dim=0).amax().expand(K, C, C),
    }  # fmt: skip


def check(kernels: ModuleType, case: Case, compute: torch.dtype = F32, **more: Any) -> ModelSums:
    """Assert that the pass keeps to the budget of one model's passes, and gives what the reference gives."""
    found, exact = case.run(kernels, compute, **more), case.run(reference, F64)
    terms, (N, D) = sizes(case, exact), case.X.shape
    share = FLOAT64_SHARE * (1 + math.sqrt(D))
    if compute == F32:
        # The largest that plain float32 torch loses in any of the sums: in one of them it may round luckily.
        plain = max(errors(case.run(reference, F32), exact, terms).values())
        share = FLOAT32_SHARE + ROW_ROUNDING / math.sqrt(N) + plain
    for name, error in errors(found, exact, terms).items():
        assert error <= share, f"{name}: error {error:.3g}, allowed {share:.3g}"
    return found


def errors(found: ModelSums, exact: ModelSums, terms: dict[str, Tensor]) -> dict[str, float]:
    """The largest error of each sum, as a share of the largest sum of absolute terms."""
    shares = {}
    for name, ours, truth in zip(ModelSums._fields, found, exact, strict=True):
        assert (ours is None) == (truth is None)
        if truth is not None:
            assert (ours.dtype, ours.shape) == (F64, truth.shape)
            shares[name] = float((ours - truth).abs().max() / terms[name].max().clamp(min=1e-300))
    return shares


LOGISTIC = [
    {"N": 37, "D": 1, "K": 1},
    {"N": 150, "D": 5, "K": 2, "weights": F64},
    {"N": 70, "D": 28, "K": 15, "folds": 2},
    {"N": 33, "D": 28, "K": 16, "storage": BF16},
    {"N": 65, "D": 33, "K": 17, "targets": 3, "ordered": True},
    {"N": 64, "D": 64, "K": 17, "storage": BF16, "weights": F32},
    {"N": 29, "D": 100, "K": 100, "storage": BF16},
    {"N": 31, "D": 28, "K": 17, "storage": F16, "weights": F32},
    {"N": 129, "D": 256, "K": 2},
    {"N": 35, "D": 256, "K": 17, "storage": BF16, "targets": 2, "folds": 2},
    {"N": 40, "D": 28, "K": 3, "center": True},
    {"N": 40, "D": 64, "K": 3, "center": True, "storage": BF16},
    {"N": 3, "D": 5, "K": 3, "storage": F64},
]


@pytest.mark.parametrize("shape", LOGISTIC, ids=str)
def test_one_kernel_for_logistic_models(shape: dict[str, Any], kernels: ModuleType, device: torch.device) -> None:
    check(kernels, made(**shape, device=device))


@pytest.mark.parametrize(
    "shape",
    [
        {"N": 37, "D": 1, "K": 1, "along": True},
        {"N": 150, "D": 28, "K": 5, "center": True, "along": True},
        {"N": 70, "D": 28, "K": 17, "folds": 2, "targets": 2},
        {"N": 65, "D": 33, "K": 17, "storage": BF16, "ordered": True, "along": True, "weights": F32},
        {"N": 130, "D": 64, "K": 33, "storage": F64, "weights": F64, "along": True},
        {"N": 40, "D": 64, "K": 3, "storage": F16},
        {"N": 70, "D": 28, "K": 2, "C": 10, "center": True, "weights": F64},
    ],
    ids=str,
)
def test_one_kernel_in_float64(shape: dict[str, Any], kernels: ModuleType, device: torch.device) -> None:
    case = made(**shape, device=device)
    check(kernels, case, F64)
    if device.type == "cpu":
        with counted_launches() as found:
            case.run(kernels, F64)
        assert found.kernels == {"models_kernel": 1}


@pytest.mark.parametrize("C", [2, 3, 10, 16])
@pytest.mark.parametrize(
    "shape", [{"N": 70, "D": 28, "K": 5, "weights": F32}, {"N": 34, "D": 64, "K": 2, "storage": BF16}], ids=str
)
def test_one_kernel_for_softmaxes(shape: dict[str, Any], C: int, kernels: ModuleType, device: torch.device) -> None:
    check(kernels, made(**shape, C=C, device=device))


@pytest.mark.parametrize(
    ("compute", "shape"),
    [
        (F32, {"N": 300, "D": 257, "K": 17, "storage": BF16, "targets": 2}),
        (F32, {"N": 40, "D": 300, "K": 100, "storage": F16, "ordered": True}),
        (F32, {"N": 300, "D": 300, "K": 3, "center": True, "storage": BF16, "weights": F32}),
        (F32, {"N": 40, "D": 257, "K": 2, "C": 10, "storage": BF16, "along": True, "weights": F64}),
        (F32, {"N": 40, "D": 5, "K": 2, "C": 100}),
        (F32, {"N": 6, "D": 5, "K": 2, "C": 300}),
        (F32, {"N": 300, "D": 28, "K": 17, "along": True, "second": True, "weights": F32}),
        (F32, {"N": 40, "D": 28, "K": 16, "second": True, "storage": BF16}),
        (F32, {"N": 300, "D": 5, "K": 3, "C": 3, "along": True, "second": True, "weights": F64}),
        (F32, {"N": 40, "D": 256, "K": 33, "folds": 2}),
        (F64, {"N": 300, "D": 28, "K": 17, "folds": 2, "along": True, "second": True}),
        (F64, {"N": 300, "D": 65, "K": 3, "along": True}),
        (F64, {"N": 40, "D": 28, "K": 2, "C": 3, "along": True}),
        (F64, {"N": 40, "D": 300, "K": 2, "C": 10, "center": True, "weights": F64, "along": True, "second": True}),
        (F64, {"N": 40, "D": 70, "K": 1, "storage": BF16}),
    ],
    ids=str,
)
def test_blocks_of_rows(
    compute: torch.dtype,
    shape: dict[str, Any],
    kernels: ModuleType,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_models, "_BLOCK_BYTES", 1)  # blocks of 128 rows, the smallest
    check(kernels, made(**shape, device=device), compute)


@pytest.mark.parametrize("precision", ["ieee", "tf32x3", "bfloat16"])
def test_many_tiles_a_program(
    precision: str, kernels: ModuleType, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several sums in float32 of each program, which are added up in float64."""
    monkeypatch.setattr(gpu_models, "_MOST_CHUNK", 2)
    monkeypatch.setattr(gpu_models, "multiprocessors", lambda device: 2)
    case = made(16 * 21 + 3, 28, 3, device=device)
    launch = ModelsLaunch(16, 4, 1, block_k=16, precision=precision)
    check(kernels, case, launch=launch)
    check(kernels, case, launch=replace(launch, product=False))
    check(kernels, case, launch=replace(launch, block_n=32, num_warps=8))  # no thread holds two rows


def test_many_tiles_a_program_in_float64(
    kernels: ModuleType, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several products of losses of each program, and its border; the same in float32."""
    monkeypatch.setattr(gpu_models, "_MOST_CHUNK", 1)
    monkeypatch.setattr(gpu_models, "multiprocessors", lambda device: 2)
    case = made(16 * 21 + 3, 28, 3, along=True, device=device)
    launch = ModelsLaunch(16, 1, 1, block_k=16, precision="ieee")
    check(kernels, case, F64, launch=launch)
    check(kernels, case, F64, launch=replace(launch, product=False))
    check(kernels, case, F32, launch=launch)


@pytest.mark.parametrize("storage", [F32, BF16], ids=str)
def test_layouts_of_x(storage: torch.dtype, kernels: ModuleType, device: torch.device) -> None:
    """Columns that lie contiguously, and rows behind which there is something that is no number."""
    case = made(70, 28, 3, storage=storage, device=device)
    wide = torch.full((71, 40), math.nan, dtype=storage, device=device)
    wide[:70, :28] = case.X
    plain = case.run(kernels, F32)
    for X in (case.X.t().contiguous().t(), wide[:70, :28]):
        found = check(kernels, replace(case, X=X))
        for ours, same in zip(found[:4], plain[:4], strict=True):
            torch.testing.assert_close(ours, same, rtol=1e-6, atol=1e-6)
    found = check(kernels, replace(case, X=case.X.t().contiguous().t()), F64)
    torch.testing.assert_close(found.loss, plain.loss, rtol=1e-6, atol=0)


@pytest.mark.parametrize("compute", [F32, F64], ids=str)
@pytest.mark.parametrize("C", [1, 3])
def test_certain_rows_keep_their_digits(
    C: int, compute: torch.dtype, kernels: ModuleType, device: torch.device
) -> None:
    """Of a row whose label is almost certain the loss is the odds against it, of one with the other label its logit."""
    N, K, rtol = 70, 3, 1e-6 if compute == F32 else 1e-12
    for gap in (20.0, 60.0, 1000.0):
        for label in (0, 1):
            X = torch.ones(N, 1, dtype=compute, device=device)
            codes, folds = (torch.full((1, N), each, dtype=torch.uint8, device=device) for each in (label, 0))
            of = [torch.full((K,), each, dtype=torch.int32, device=device) for each in (0, 0, NO_FOLD)]
            weight = torch.zeros(1, K * C, dtype=compute, device=device)
            weight[0, 0 if C == 1 else 1 :: C] = gap
            found = kernels.models_onepass(X, Models(codes, folds, *of, classes=C), weight, 0 * weight[0])
            odds = max(C - 1, 1) * math.exp(-gap)
            expected = math.log1p(odds) + (0 if label else gap)
            loss = torch.full((K,), N * expected, dtype=F64, device=device)
            torch.testing.assert_close(found.loss, loss, rtol=rtol, atol=1e-30)
            r = (-odds if label else 1) / (1 + odds)
            own = found.bias_grad.view(K, C)[:, 0 if C == 1 else 1]
            torch.testing.assert_close(own, torch.full_like(own, N * r), rtol=rtol, atol=1e-30)


@pytest.mark.parametrize("compute", [F32, F64], ids=str)
@pytest.mark.parametrize("C", [1, 3])
def test_a_row_that_is_no_number(C: int, compute: torch.dtype, kernels: ModuleType, device: torch.device) -> None:
    """It reaches the losses of the models that see the row, and of no other."""
    case = made(40, 5, 3, C=C, device=device)
    case.models.codes[0, 7], case.models.folds[0, 7] = 1, 2
    case.models.held.copy_(torch.tensor([0, 2, NO_FOLD]))
    case.X[7, 3] = math.nan
    found = case.run(kernels, compute)
    assert found.loss.isnan().tolist() == [True, False, True]
    assert found.held_loss.isnan().tolist() == [False, True, False]
    assert found.bias_grad.view(3, C).isnan().all(dim=1).tolist() == [True, False, True]
    case.models.codes[0, 7] = case.models.missing
    found = case.run(kernels, compute)
    assert not found.loss.isnan().any()
    assert not found.held_loss.isnan().any()


def test_no_rows(kernels: ModuleType, device: torch.device) -> None:
    for compute in (F32, F64):
        for sums in made(0, 5, 3, device=device).run(kernels, compute)[:4]:
            assert not sums.any()


def test_what_no_pass_can_read(kernels: ModuleType, device: torch.device) -> None:
    case = made(20, 5, 3, device=device)
    with pytest.raises(ValueError, match="weight"):
        kernels.models_onepass(case.X, case.models, case.weight.t(), case.bias)
    with pytest.raises(TypeError, match="bias"):
        kernels.models_onepass(case.X, case.models, case.weight, case.bias.float())
    with pytest.raises(TypeError, match="X"):
        kernels.models_onepass(case.X.int(), case.models, case.weight, case.bias)


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts what is interpreted")
def test_launches(kernels: ModuleType) -> None:
    """One kernel, and one sum of what its programs found; of a block of rows two products around one kernel."""
    case = made(300, 28, 17)
    with counted_launches() as found:
        case.run(kernels, F32)
    assert (found.kernels.total(), found.kernels["models_kernel"], found.reads) == (1, 1, 0)
    assert found.by_name["sum"] == 1
    assert found.by_name["mm"] == 0
    with counted_launches() as found:
        case.run(kernels, F64, second=True)
    assert (found.kernels.total(), found.kernels["logits_kernel"], found.by_name["mm"], found.reads) == (1, 1, 2, 0)


@pytest.mark.gpu
@pytest.mark.parametrize(("D", "storage"), [(28, F32), (64, BF16), (256, F32), (300, BF16)], ids=str)
def test_millions_of_rows(D: int, storage: torch.dtype, kernels: ModuleType) -> None:
    """A gradient's terms of one sign, whose sum in float32 would lose digits with its length; the same twice."""
    N = 120_000_000 // D
    case = made(1000, D, 20, storage=storage, device="cuda")
    repeats = -(-N // 1000)
    models = case.models
    tiled = replace(models, codes=models.codes.repeat(1, repeats), folds=models.folds.repeat(1, repeats))
    large = replace(case, X=case.X.repeat(repeats, 1), models=tiled)
    small, found = case.run(reference, F64), large.run(kernels, F32)
    terms = sizes(case, small)
    each = ModelSums(*(sums / repeats for sums in found[:4]))
    assert max(errors(each, small, terms).values()) <= 4e-7
    assert all(torch.equal(a, b) for a, b in zip(found[:4], large.run(kernels, F32)[:4], strict=True))
