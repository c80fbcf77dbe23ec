"""What a run says about itself and what its report says, before any of it is drawn: page and pictures show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics.intervals import Interval
from .chart import Chart
from .coefficients import Coefficients
from .decisions import ClassConfusion, Question
from .text import plural


@dataclass(frozen=True)
class SolverSummary:
    """How a solver's fit ended, as `flashlogit.fitting.fit.Fit` has it."""

    solver: str
    ending: str
    converged: bool
    objective: float
    null_objective: float
    certificate: str
    """`gap` where the gap is a duality gap; `decrement` where it is half the squared Newton decrement."""
    gap: float
    relative_gap: float
    tolerance: float
    statement: str
    """One sentence that says what the certificate proves."""
    notes: tuple[str, ...]
    separation: str | None
    """`complete`, `quasi-complete` or `suspected`; None where the classes are not separated."""
    iterations: int
    passes: float
    terabytes_per_second: float
    seconds: float
    compile_seconds: float

    @property
    def proven(self) -> bool:
        """Whether a duality gap within the tolerance proves the optimum."""
        return self.converged and self.certificate == "gap"

    @property
    def verdict(self) -> str:
        """The statement in two or three words, which say too why there may be no proof."""
        if self.proven:
            return "✓ certified"
        if self.separation is not None:
            return f"classes {'may be' if self.separation == 'suspected' else 'are'} separated"
        return "converged, no proof possible" if self.converged else "not converged"


@dataclass(frozen=True)
class EpochSummary:
    """How training by mini-batches ended."""

    epochs: int
    kept_epoch: int

    # What a report asks a solver's summary too; not annotated, so that metrics.json has only the fields.
    notes, converged, proven, verdict = (), True, False, "not certified"

    @property
    def statement(self) -> str:
        """One sentence that says what such training proves."""
        return (
            f"trained by mini-batches for {plural(self.epochs, 'epoch')}, weights of epoch {self.kept_epoch:,} kept;"
            " such training comes near the optimum and proves nothing about its distance"
        )


@dataclass(frozen=True)
class RunSummary:
    """A finished run: how the model was learned, and on what."""

    device: str
    backend: str
    learned: SolverSummary | EpochSummary
    flashlogit: str
    """Version of the package."""
    torch: str
    """Version of torch."""
    gpu: str | None
    """Name of the GPU; None where the CPU computed."""
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Return `run` of metrics.json: all fields by name, those of `learned` among them."""
        learned = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.learned).items()}
        outer = {name: getattr(self, name) for name in ("flashlogit", "torch", "gpu", "threads")}
        return {"device": self.device, "backend": self.backend, **learned, **outer}


@dataclass(frozen=True)
class Report:
    """A whole report. `headline` is the split that a reader should look at first: test rows, if there are any."""

    title: str
    headline: str
    learned: SolverSummary | EpochSummary
    notes: tuple[str, ...]
    """Sentences on the data."""
    facts: tuple[tuple[str, str], ...]
    settings: str
    metrics: Mapping[str, Mapping[str, float | None]]
    """By split and name; None where one is undefined."""
    intervals: Mapping[str, Mapping[str, Interval]]
    history: Chart | None
    questions: tuple[Question, ...]
    classes: int
    confusions: tuple[ClassConfusion, ...]
    coefficients: Coefficients
    category: str | None
    """A column that stands for one value of a column of categories, as an example; None where there is none."""

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits, the headline's first: a phone shows no more without scrolling."""
        return sorted(self.metrics, key=lambda name: name != self.headline)
