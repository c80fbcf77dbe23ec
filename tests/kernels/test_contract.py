"""What the passes refuse, in both implementations alike, and how they say it; how launches are chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from flashlogit_kernels.contract import HESSIAN_COLUMNS, BCESums, Clamp, joined, packed_sums
from flashlogit_kernels.gpu import launch
from flashlogit_kernels.gpu.launch import LaunchConfig

GOOD = {"X": torch.ones(4, 3), "y": torch.ones(4), "weight": torch.ones(3), "bias": torch.ones(1)}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"X": torch.ones(4)}, ValueError, r"X is \[4\]; must be \[rows, columns\]"),
    ({"X": torch.ones(4, 0)}, ValueError, "at least one column"),
    ({"X": torch.ones(4, 3, dtype=torch.int64)}, TypeError, r"X is torch.int64; must be .* X\.float\(\)"),
    ({"y": [1.0] * 4}, TypeError, r"y is a list; must be a torch tensor: use torch\.as_tensor\(y\)"),
    ({"X": torch.ones(4, 3).to_sparse()}, TypeError, r"X is torch\.sparse_coo; must be dense"),
    ({"X": torch.ones(0, 3), "y": torch.ones(0)}, ValueError, "there are no rows"),
    ({"rows": torch.ones(0, dtype=torch.int64)}, ValueError, "there are no rows"),
    ({"y": torch.ones(5)}, ValueError, "y has 5 entries; must have 4"),
    ({"y": torch.ones(4, 1)}, ValueError, r"y is \[4, 1\]; .*y\.reshape\(-1\)"),
    ({"y": torch.ones(4, dtype=torch.complex64)}, TypeError, "y is torch.complex64; must be a real dtype"),
    ({"weight": torch.ones(4)}, ValueError, "weight has 4 entries; must have 3"),
    ({"bias": torch.ones(2)}, ValueError, r"bias is \[2\]; must hold one number"),
    ({"pos_weight": torch.ones(2)}, ValueError, r"pos_weight is \[2\]; must hold one number"),
    ({"sample_weight": torch.ones(3)}, ValueError, "sample_weight has 3 entries; must have 4"),
    ({"rows": torch.ones(2)}, TypeError, "rows is torch.float32; must be int64 or int32"),
    ({"eps": 0.5}, ValueError, r"eps is 0\.5; must be at least 0 and less than 0\.5"),
    ({"eps": -1e-9}, ValueError, "eps is -1e-09"),
    ({"eps": float("nan")}, ValueError, "eps is nan"),
    ({"clamp_gradient": "none"}, ValueError, "clamp_gradient is 'none'; must be 'through' or 'exact'"),
    ({"compute_dtype": torch.float16}, TypeError, "compute_dtype is torch.float16; must be"),
    ({"y": torch.ones(4, device="meta")}, ValueError, r"y is on meta and X on cpu; move it with y\.to"),
    ({"center": torch.zeros(4)}, ValueError, r"center is \[4\]; must be \[3\]"),
    ({"center": torch.zeros(3, 1)}, ValueError, r"center is \[3, 1\]; must be \[3\]"),
    ({"center": torch.zeros(3, dtype=torch.complex64)}, TypeError, "center is torch.complex64"),
    ({"scale": torch.ones(3)}, TypeError, "the pass has no option scale; it has center, clamp"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_refused(change, error, message, passes):
    for function in (passes.bce_onepass, passes.bce_rows, passes.bce_hessian):
        with pytest.raises(error, match=message):
            function(**{**GOOD, **change})


PRODUCT = {"X": torch.ones(4, 3), "curvature": torch.ones(4), "v": torch.ones(3)}
COMPLEX = torch.ones(4, dtype=torch.complex64)
TOO_WIDE = {"X": torch.ones(2, HESSIAN_COLUMNS + 1), "y": torch.ones(2), "weight": torch.ones(HESSIAN_COLUMNS + 1)}
BAD_CALLS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("hessian_product", PRODUCT | {"X": torch.ones(0, 3), "curvature": torch.ones(0)}, ValueError, "there are no rows"),
    ("hessian_product", PRODUCT | {"curvature": torch.ones(5)}, ValueError, "curvature has 5 entries; must have 4"),
    ("hessian_product", PRODUCT | {"v": torch.ones(4)}, ValueError, "v has 4 entries; must have 3"),
    ("hessian_product", PRODUCT | {"v_bias": torch.ones(2)}, ValueError, r"v_bias is \[2\]; must hold one number"),
    ("hessian_product", PRODUCT | {"v": COMPLEX[:3]}, TypeError, "v is torch.complex64; must be a real dtype"),
    ("hessian_product", PRODUCT | {"v": torch.ones(3, device="meta")}, ValueError, "v is on meta and X on cpu"),
    ("hessian_product", PRODUCT | {"center": torch.ones(3, device="meta")}, ValueError, "center is on meta"),
    ("hessian_product", PRODUCT | {"eps": 0.1}, TypeError, "no option eps; it has center, compute_dtype, rows$"),
    ("column_sums", {"X": torch.ones(4, 3), "v": COMPLEX}, TypeError, r"v is torch\.complex64"),
    ("column_sums", {"X": torch.ones(4, 3), "v": torch.ones(5)}, ValueError, "v has 5 entries; must have 4"),
    ("bce_hessian", TOO_WIDE | {"X": [[1.0]]}, TypeError, "X is a list; must be a torch tensor"),
    ("bce_hessian", TOO_WIDE, ValueError, "at most 128 columns: .* hessian_product"),
]


@pytest.mark.parametrize(("function", "arguments", "error", "message"), BAD_CALLS)
def test_single_passes_refuse(function, arguments, error, message, passes):
    with pytest.raises(error, match=message):
        getattr(passes, function)(**arguments)


def test_rows_values_need_not_be_contiguous(passes):
    X, v, values = torch.randn(40, 3), torch.randn(3), torch.rand(80)
    for function, arguments in ((passes.hessian_product, (values[::2], v)), (passes.column_sums, (values[::2],))):
        copied = [each.contiguous() for each in arguments]
        # MKL's last digits depend on where in memory a vector begins.
        torch.testing.assert_close(function(X, *arguments), function(X, *copied), rtol=1e-5, atol=1e-5)


def test_the_clamps_numbers():
    clamp = Clamp(1e-8, "through")
    assert (clamp.bound, clamp.tail) == pytest.approx((18.420680733952367, 1.00000001e-08), rel=1e-15)
    assert Clamp(0, "exact").bound == float("inf")
    assert [Clamp(eps, "exact").zeroes_gradient for eps in (0, 1e-3)] == [False, True]


def test_the_packed_sums_by_name():
    numbers = {"bias_grad": 3.0, "loss": 4.0, "weight_sum": 5.0, "nonfinite": 6.0, "max_abs_logit": 7.0}
    packed = packed_sums(torch.tensor([1.0, 2.0], dtype=torch.float64), **numbers)
    sums = BCESums(packed)
    assert {name: getattr(sums, name).item() for name in numbers} == numbers
    assert sums.weight_grad.tolist() == [1, 2]
    assert sums.gradient.tolist() == [1, 2, 3]
    assert joined([packed, packed.flip(0)]).tolist() == [8.0] * 6 + [7.0]
    total = torch.tensor([1.0, 1.0, 1.0, 1.0, 9.0], dtype=torch.float64)
    sums.add_scalars_to(total)
    assert total.tolist() == [4, 5, 6, 7, 9]
    assert BCESums(total).loss == 5


def test_the_packed_sums_with_a_border_by_name():
    packed = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], dtype=torch.float64)
    sums = BCESums(packed, has_border=True)
    assert sums.columns == 2
    assert (sums.weight_grad.tolist(), sums.gradient.tolist(), sums.scalars.tolist()) == (
        [1, 2],
        [1, 2, 3],
        [3, 4, 5, 6, 7],
    )
    values = [sums.bias_grad, sums.loss, sums.weight_sum, sums.nonfinite, sums.max_abs_logit, sums.corner]
    assert values == [3, 4, 5, 6, 7, 10]
    assert sums.border.tolist() == [8, 9]
    assert joined([packed, packed + 1], border=True).tolist() == [3, 5, 7, 9, 11, 13, 8, 17, 19, 21]
    with pytest.raises(ValueError, match="border=True"):
        _ = BCESums(packed).border


CPU = torch.device("cpu")


@pytest.mark.parametrize("compute", [torch.float32, torch.float64], ids=str)
def test_every_width_that_fits_has_a_configuration(compute):
    widest = 16384 if compute == torch.float32 else 8192
    for D in [1, 2, 3, 5, 8, 16, 33, 65, 129, 257, 513, 1025, 2049, 4097, widest - 1, widest]:
        for storage in (torch.float32, torch.bfloat16):
            config = launch.launch_config("onepass", D, storage, compute, CPU)
            assert config == launch.launch_config("hessian_product", D, storage, compute, CPU)
            assert config.block_n & (config.block_n - 1) == 0
            width, rest = launch.piece_widths(D, config)
            assert width < D <= width + rest if rest else width == launch.block_width(D)


def test_every_hessian_has_a_configuration():
    for D in range(1, HESSIAN_COLUMNS + 1):
        assert launch.launch_config("hessian", D, torch.float16, torch.float32, CPU).block_n >= 16
    with pytest.raises(ValueError, match="129 columns in float32 arithmetic are more than the launch table"):
        launch.launch_config("hessian", 129, torch.float32, torch.float32, CPU)


@pytest.mark.parametrize(
    ("machine", "block_n", "num_ctas", "problem"),
    [
        ("any", 1, 2, "num_ctas is 2 for any machine"),
        ("A", 1, 3, "num_ctas is 3; must be a power of two"),
        ("A", 3, 1, "block_n is 3; must be a power of two"),
        ("A", 1, 2, None),
        ("any", 1, 1, None),
    ],
)
def test_clusters_are_for_machines_that_have_tried_them(machine, block_n, num_ctas, problem, tmp_path):
    path = tmp_path / "table.csv"
    config = LaunchConfig(block_n, 16, 1, num_ctas=num_ctas)
    entries = [launch.Entry(machine, "2026-01-02", "onepass", "float32", "float32", 32_768, config)]
    launch.write_table(entries, path)
    if problem is None:
        assert launch.read_table(path) == entries
    else:
        with pytest.raises(ValueError, match=f"line 2: {problem}"):
            launch.read_table(path)


def test_a_cluster_is_that_of_the_same_machine_and_width(monkeypatch):
    def entry(machine, D, num_ctas, compute="float32"):
        config = LaunchConfig(1, 16, 1, num_ctas=num_ctas)
        return launch.Entry(machine, "2026-01-02", "onepass", compute, compute, D, config)

    known = [entry("interpreter", 20_000, 2), entry("interpreter", 32_768, 4), entry("A", 65_536, 4)]
    monkeypatch.setattr(launch, "packaged", lambda: (*known, entry("interpreter", 16_385, 8, "float64")))
    F32, F64 = torch.float32, torch.float64
    found = [launch.cluster_config(D, F32, F32, CPU) for D in (16_385, 25_000, 30_000, 65_536, 16_384)]
    assert [config and config.num_ctas for config in found] == [2, 2, 4, None, None]
    assert launch.cluster_config(30_000, F32, F64, CPU).num_ctas == 8
    assert launch.cluster_config(30_000, torch.bfloat16, F32, CPU) is None


def test_programs_and_tiles_follow_the_rows():
    small = LaunchConfig(8, 4, 4)
    assert [launch.grid_size(n, small, CPU) for n in (1, 17, 1000)] == [(1, 1), (3, 3), (125, 8)]
    tiles, programs = launch.grid_size(10**6, small, CPU)
    assert (tiles, programs % 8) == (125_000, 0)
    assert tiles / programs <= launch.TILES_A_PROGRAM < tiles / (programs - 8)
    wide = LaunchConfig(1, 16, 3)
    programs = [launch.grid_size(200, replace(wide, num_ctas=ctas), CPU)[1] for ctas in (1, 2, 4, 8)]
    assert programs == [6, 3, 1, 1]
    for n, block_n in ((100, 128), (256, 128), (257, 256), (512, 256), (513, 512), (10**6, 512)):
        assert launch.fitted(LaunchConfig(512, 4, 2), n, CPU).block_n == block_n
    assert launch.fitted(LaunchConfig(8, 1, 8), 3, CPU).block_n == 8
