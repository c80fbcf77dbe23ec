"""What a run says about itself: the typed record behind `run` of metrics.json, which the report reads too."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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


@dataclass(frozen=True)
class EpochSummary:
    """How training by mini-batches ended."""

    epochs: int
    kept_epoch: int


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
