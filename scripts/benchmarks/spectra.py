"""Is `auto` right? flashlogit's methods on sixty tables whose Hessians have all kinds of spectra.

Every method fits every table to a proven relative gap of 1e-8, once to compile and warm up, then in turn with the
others; one that takes four times as long as the quickest gets no more turns. The time of a method is its least, and the
speed-up that of the quickest method over it: `auto` is meant to have at least 0.8. With --peers `auto` races against
other libraries in place of that, as in `fit`.
"""

import math
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

import flashlogit
from flashlogit import UserError

from .clock import timing, wall
from .contenders import Contender, Data, contenders
from .fit import Race
from .problems import GAP, Objective
from .report import Record, Report, parser_of, times

_METHODS = ("newton", "newton-cg", "lbfgs", "auto")
_SLOW = 4.0
"""Methods that take so many times as long as the quickest at first are not timed in turn."""
_FAR_BEHIND = 4.0
"""A peer's setting that takes so many times as long as `auto` is the last that it is tried with."""
_LEAST_LIMIT_MS = 50.0
_QUICK_BYTES = 4 << 20
"""Bytes of X in a quick run, which takes every fifth table."""


@dataclass(frozen=True)
class Spectrum:
    """N rows of D columns.

    kind: "mixed" columns, combinations of independent ones whose sizes span so many decades, where the largest five may
    be `outlying` times as large as that; "correlated" ones, each with its neighbours and all through a common factor;
    "one-hot" ones of factors with 4 to 64 levels; or "heavy-tailed" ones, of Student's t with 2.5 degrees of freedom.
    size: standard deviation of the logits. weaker: l2 is 1 / N divided by it.
    """

    N: int
    D: int
    kind: str = "mixed"
    decades: float = 0.0
    outlying: float = 1.0
    size: float = 2.0
    weaker: float = 1.0

    @property
    def name(self) -> str:
        """The table in tables and files."""
        parts = [f"{self.N:,} x {self.D:,}", f"{self.decades:g} decades" if self.kind == "mixed" else self.kind]
        parts += ["outlying"] if self.outlying > 1 else []
        return ", ".join([*parts, *([f"l2 / {self.weaker:g}"] if self.weaker > 1 else [])])

    @property
    def l2(self) -> float:
        """The penalty."""
        return 1 / (self.N * self.weaker)

    def make(self) -> tuple[Tensor, Tensor]:
        """Make X [N, D] float32 and y [N] uint8, always the same."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        X, normal = torch.zeros(self.N, self.D), partial(torch.randn, generator=generator)
        if self.kind == "one-hot":
            begin = 0
            while begin < self.D:
                levels = min(self.D - begin, 4 << begin % 5)
                rare = torch.rand(self.N, generator=generator).square_().mul_(levels).long()
                X.scatter_(1, begin + rare[:, None], 1.0)
                begin += levels
        elif self.kind == "heavy-tailed":
            X = normal(X.shape) / sum(normal(X.shape).square_() for _ in range(5)).div_(5.0).sqrt_().sqrt_()
            X = X.abs().pow_(2.0).mul_(X.sign())
        else:
            order = torch.arange(self.D)
            if self.kind == "correlated":
                mix = torch.linalg.cholesky(0.7 * 0.5 ** (order[:, None] - order).abs() + 0.3).t()
            else:
                sizes = torch.logspace(0, -self.decades, self.D)
                sizes[:5] *= self.outlying
                mix = sizes[:, None] * torch.linalg.qr(normal(self.D, self.D))[0]
            for part in torch.split(X, max(1, (1 << 24) // self.D)):
                torch.mm(normal(part.shape), mix, out=part)
        z = X @ normal(self.D)
        chance = torch.sigmoid(self.size * (z - z.mean()) / z.std() - 0.5)
        return X, (torch.rand(self.N, generator=generator) < chance).to(torch.uint8)


def _tables() -> Iterator[Spectrum]:
    wide, rows = (20_000, 1024), 1_000_000
    for shape in ((rows, 28), (100_000, 128), (100_000, 384), (20_000, 384), wide, (20_000, 2048), (12_000, 4096)):
        yield from (Spectrum(*shape, decades=decades) for decades in (0, 1, 2, 3))
    for shape in ((rows, 28), (100_000, 384), wide, (5_000, 1024)):
        yield from (Spectrum(*shape, decades=decades, outlying=30.0) for decades in (0, 2))
    for shape in ((rows, 28), (400_000, 64), (100_000, 200), wide, (12_000, 4096), (5_000, 384)):
        yield Spectrum(*shape, "correlated")
    for shape in ((400_000, 64), (200_000, 200), (20_000, 384), wide, (12_000, 4096)):
        yield Spectrum(*shape, "one-hot", size=1.0)
    for shape in ((2_000_000, 4), (400_000, 100), wide, (5_000, 384)):
        yield Spectrum(*shape, "heavy-tailed")
    for shape in ((2_000_000, 1), (2_000_000, 10), (500, 10), (500, 100), (2_000, 400), (500, 1024)):
        yield Spectrum(*shape, decades=1)
    for each in (Spectrum(rows, 28, decades=1), Spectrum(*wide), Spectrum(100_000, 384, decades=2)):
        yield replace(each, weaker=100.0)


TABLES = list(_tables())


def measure(table: Spectrum, data: Data, repeats: int) -> list[Record]:
    """Fit a table by every method and return their records."""
    found: dict[str, Record] = {}
    fits: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        slowest = _SLOW * min((ms[0] for ms in fits.values()), default=math.inf)
        for solver in _METHODS:
            if turn and (solver not in fits or not found[solver]["converged"] or fits[solver][0] > slowest):
                continue
            fit = partial(flashlogit.fit, data.X, data.y, l2=table.l2, tolerance=GAP, solver=solver, max_iterations=400)
            try:
                began = time.process_time()
                ms, result = wall(fit, torch.device("cpu"))
                cpu_ms = 1e3 * (time.process_time() - began)
            except UserError:  # it takes no table of so many columns
                continue
            known = {"line": f"{table.name}: {solver}", "name": f"{table.name}: {solver}", "setting": result.solver}
            known |= {"passes": result.passes, "iterations": result.iterations, "gap": result.relative_gap}
            cpu_ms = min(cpu_ms, found[solver]["cpu_ms"]) if turn > 1 else cpu_ms
            found[solver] = known | {"converged": result.converged, "cpu_ms": cpu_ms}
            if turn:  # the first one may have compiled
                fits[solver] = [ms, *fits[solver]] if turn > 1 else [ms]
            else:
                fits[solver] = [1e3 * result.seconds]
    best = min(min(fits[solver]) for solver in fits if found[solver]["converged"])
    for solver, record in found.items():
        least = min(fits[solver])
        record |= times(timing(fits[solver], "wall")) | {"ms": least, "speedup": best / least}
        record |= {} if record["converged"] else {"status": "stopped short", "reason": f"a gap of {record['gap']:.1e}"}
    return list(found.values())


def peers(table: Spectrum, data: Data, repeats: int, patterns: Sequence[str]) -> list[Record]:
    """Let other libraries race against `auto`, each until it takes so long that it has lost."""
    objective = Objective(data.X, data.y, table.l2)
    exact = flashlogit.fit(data.X, data.y, l2=table.l2, tolerance=1e-12)
    objective.best = objective(exact.weight, exact.bias)
    found = contenders(data, "cpu", GAP, ["flashlogit", *patterns])
    entrants = [each for each in found if isinstance(each, Contender) and not each.name.startswith("flashlogit ")]
    run = Race(objective, GAP, repeats, math.inf)
    for entrant in entrants:  # ours is the first
        ours = run.climb(entrant).get("ms", math.inf)
        run.limit_ms = min(run.limit_ms, max(_LEAST_LIMIT_MS, _FAR_BEHIND * ours))
    run.take_turns()
    records = [run.record(entrant) for entrant in entrants]
    ours = next(record.get("ms") for record in records if record["name"] == "flashlogit")
    for record in records:
        name = f"{table.name}: {record['name']}"
        record |= {"name": f"{name} (raced)", "line": name}
        record |= {"speedup": ours / record["ms"]} if ours and "ms" in record else {}
    return records


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = parser_of("spectra", __doc__)
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="other solvers to race, such as 'scikit-learn*'")
    parser.add_argument("--repeats", type=int, default=3, help="turns; default: 3")
    parser.add_argument("--only", default="", metavar="TEXT", help="tables whose names have it")
    options = parser.parse_args([*arguments, "--devices", "cpu"])
    report = Report("spectra", __doc__, options)
    raced, repeats = options.peers is not None, 1 if options.quick else options.repeats
    for table in TABLES[:: 5 if options.quick else 1]:
        if options.quick:
            table = replace(table, N=max(500, min(table.N, _QUICK_BYTES // (4 * table.D))))
        if options.only not in table.name or (raced and table.weaker > 1):  # the peers' penalty is 1 / N
            continue
        X, y = table.make()
        data = Data(X, y, table.l2)
        report.add(
            table.name, peers(table, data, repeats, options.peers or ["*"]) if raced else measure(table, data, repeats)
        )
    report.finish()
    return 0
