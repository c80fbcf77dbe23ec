"""The program `tune`: what is tried, what is chosen, and what becomes of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from samples import instant_clock, make_problem

from flashlogit.benchmark.candidates import Shape, choose, coarse, fits, refined, splits, width_of
from flashlogit.benchmark.clock import Failure, Timing
from flashlogit.benchmark.options import COLUMNS
from flashlogit.benchmark.tune import (
    TuneOptions,
    described,
    incumbent_of,
    measure_with,
    read_table,
    replaced,
    search,
    tune,
)
from flashlogit.errors import UserError
from flashlogit_kernels import table
from flashlogit_kernels.launch import LaunchConfig
from flashlogit_kernels.table import Entry

F32, BF16, F64 = torch.float32, torch.bfloat16, torch.float64
SHAPES = [
    *(Shape("onepass", D, storage, F32) for D in COLUMNS if D <= 16384 for storage in (F32, BF16)),
    *(Shape("onepass", D, F64, F64) for D in COLUMNS if D <= 8192),
    *(Shape("hessian", D, storage, F32) for D in COLUMNS if D <= 128 for storage in (F32, BF16)),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.kernel}-{s.D}-{s.storage}")
def test_candidates(shape: Shape):
    first = coarse(shape)
    then = refined(shape, first[:4])
    found = first + then
    assert 4 <= len(first) <= 80
    assert len(found) == len(set(found))
    assert any(c.num_stages > 1 for c in then)
    for config in found:
        assert config.block_n & (config.block_n - 1) == 0
        assert config.num_warps * config.programs_per_sm <= 64
        assert fits(shape, config)
        registers = config.block_n * width_of(shape, config.split) * shape.compute.itemsize / 4
        assert registers <= 128 * 32 * config.num_warps
        if shape.kernel == "hessian":
            assert config.block_n >= 16
            assert not config.split


@pytest.mark.parametrize(
    ("storage", "D", "launch"),
    [
        (F32, 1, LaunchConfig(2048, 8, 8)),
        (F32, 28, LaunchConfig(512, 4, 2)),
        (F32, 1024, LaunchConfig(8, 4, 4)),
        (F32, 8192, LaunchConfig(4, 8, 1)),
        (F32, 16384, LaunchConfig(1, 16, 1)),
        (BF16, 28, LaunchConfig(128, 4, 8)),
        (BF16, 300, LaunchConfig(16, 2, 4, 3, True)),
        (BF16, 784, LaunchConfig(2, 2, 8, 3)),
    ],
)
def test_measured_winners_are_within_reach(storage: torch.dtype, D: int, launch: LaunchConfig):
    shape = Shape("onepass", D, storage, F32)
    tile = (launch.block_n, launch.num_warps, launch.split)
    tiles = [c for c in coarse(shape) if (c.block_n, c.num_warps, c.split) == tile]
    assert len(tiles) == 1
    assert launch in [*tiles, *refined(shape, tiles)]


def test_what_is_split():
    assert [D for D in COLUMNS if D <= 16384 and splits(Shape("onepass", D, F32, F32))] == [10, 37, 300, 513]
    assert not splits(Shape("hessian", 37, F32, F32))


A, B, C = LaunchConfig(8, 4, 4), LaunchConfig(16, 4, 4), LaunchConfig(32, 4, 4)


def test_choice():
    assert choose({A: 1.0, B: 0.9}, None) == B
    assert choose({A: 0.915, B: 0.9}, A) == A
    assert choose({A: 0.95, B: 0.9}, A) == B
    assert choose({B: 0.9}, A) == B
    assert choose({}, A) is None


class Stopwatch:
    """Made-up times: a rule gives milliseconds or a failure for each configuration."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.asked: list[list[LaunchConfig]] = []

    def __call__(self, configs: Sequence[LaunchConfig], rounds: int) -> dict[LaunchConfig, Timing | Failure]:
        self.asked.append(list(configs))
        outcomes = {config: self.rule(config) for config in configs}
        return {
            c: o if isinstance(o, Failure) else Timing(o, o, o, rounds, "made up")
            for c, o in outcomes.items()
        }


SHAPE = Shape("onepass", 28, F32, F32)


def test_search_finds_the_fastest():
    def rule(config: LaunchConfig) -> float:
        target = (128, 8, 4, 3)
        ours = (config.block_n, config.num_warps, config.programs_per_sm, config.num_stages)
        return 1.0 + sum(abs(a - b) for a, b in zip(ours, target, strict=True))

    found = search(SHAPE, A, Stopwatch(rule))
    assert found.launch == LaunchConfig(128, 8, 4, 3)
    assert found.timing is not None
    assert found.timing.ms == 1.0
    assert found.rejected.total() == 0


def test_search_keeps_the_incumbent_within_noise():
    incumbent = LaunchConfig(64, 4, 8)
    watch = Stopwatch(lambda config: 1.01 if config == incumbent else 1.0)
    assert search(SHAPE, incumbent, watch).launch == incumbent
    assert incumbent in watch.asked[-1]
    watch = Stopwatch(lambda config: 1.1 if config == incumbent else 1.0)
    found = search(SHAPE, incumbent, watch)
    assert found.launch != incumbent
    assert isinstance(found.incumbent, Timing)


def test_search_rejects_what_is_wrong():
    wrong, big = Failure("failed", "wrong result"), Failure("failed", "OutOfResources: shared memory")

    def rule(config: LaunchConfig) -> float | Failure:
        if config.num_warps == 8:
            return wrong
        return big if config.num_warps == 16 else 1.0 / config.num_warps

    found = search(SHAPE, None, Stopwatch(rule))
    assert found.launch is not None
    assert found.launch.num_warps == 4
    assert set(found.rejected) == {"wrong result", "OutOfResources"}
    text = described(SHAPE, None, found)
    assert f"{found.tried} tried, {found.rejected.total()} rejected" in text
    assert "x wrong result" in text


def test_search_without_any_success():
    found = search(SHAPE, A, Stopwatch(lambda config: Failure("failed", "no")))
    assert found.launch is None
    assert "nothing worked" in described(SHAPE, A, found)


def test_nothing_is_measured_twice_in_a_round():
    watch = Stopwatch(lambda config: float(config.block_n))
    search(SHAPE, coarse(SHAPE)[3], watch)
    tried = watch.asked[0] + watch.asked[1]
    assert len(tried) == len(set(tried))


def entry(machine: str = "GPU", D: int = 28, storage: str = "float32", launch: LaunchConfig = A) -> Entry:
    return Entry(machine, "2026-01-01", "onepass", storage, "float32", D, launch, 0.9)


def test_only_this_machines_row_is_replaced():
    others = [entry("any"), entry("GPU", 50), entry("GPU", storage="bfloat16"), entry("Other GPU")]
    old, new = entry(launch=B), entry(launch=C)
    assert replaced([*others, old], new) == [*others, new]
    assert replaced([old, *others], new) == [new, *others]
    assert replaced(others, new) == [*others, new]


def test_incumbent():
    cpu = torch.device("cpu")
    assert incumbent_of(SHAPE, [entry("Other GPU", launch=B), entry(launch=C)], "GPU", cpu) == C
    packaged = incumbent_of(SHAPE, [], "GPU", cpu)
    assert packaged is not None
    too_wide = Shape("hessian", 4096, F32, F32)
    assert incumbent_of(too_wide, [], "GPU", cpu) is None


def test_tables_that_are_none(tmp_path: Path):
    assert read_table(tmp_path / "new.csv") == []
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="launch table"):
        read_table(tmp_path / "bad.csv")


def test_wrong_answers_are_not_timed(kernels: ModuleType):
    class Doubled:
        """Gives twice the gradient for tiles of 16 rows, and raises for those of 32."""

        def bce_onepass(self, *args: Any, launch: LaunchConfig, **options: Any) -> Any:
            sums = kernels.bce_onepass(*args, launch=launch, **options)
            if launch.block_n == 32:
                raise RuntimeError("out of resource: registers")
            return replace(sums, packed=sums.packed * 2) if launch.block_n == 16 else sums

    problem = make_problem(40, 5, device="cuda" if torch.cuda.is_available() else "cpu")
    shape = Shape("onepass", 5, F32, F32)
    outcome = measure_with(problem, Doubled(), shape, instant_clock)([A, B, C], 2)
    assert isinstance(outcome[A], Timing)
    assert outcome[B] == Failure("failed", "wrong result")
    assert outcome[C] == Failure("failed", "RuntimeError: out of resource: registers")


def test_tune_writes_the_table(
    kernels: ModuleType, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flashlogit.benchmark.tune.coarse", lambda shape: [LaunchConfig(16, 1, 1), B])
    monkeypatch.setattr("flashlogit.benchmark.tune.refined", lambda shape, best: [])
    monkeypatch.setattr("flashlogit.benchmark.tune._COARSE_ROUNDS", 1)
    monkeypatch.setattr("flashlogit.benchmark.tune._FINAL_ROUNDS", 1)
    path = tmp_path / "table.csv"
    other = entry("Other GPU", D=3)
    table.write([other], path)
    options = TuneOptions((3, 20000), ("bfloat16", "float16"), ("onepass", "hessian"), 2e-7, path)
    said: list[str] = []
    tune(options, kernels, device, instant_clock, said.append)
    found = table.read(path)
    assert found[0] == other
    assert [(e.kernel, e.storage, e.D) for e in found[1:]] == [
        ("onepass", "bfloat16", 3),
        ("hessian", "bfloat16", 3),
    ]
    assert {e.machine for e in found[1:]} == {
        "interpreter" if device.type == "cpu" else torch.cuda.get_device_name()
    }
    assert all(len(e.measured) == 10 and e.fraction is not None for e in found[1:])
    assert len(said) == 3
