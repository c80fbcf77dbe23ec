"""The settings of a run: what may stand in a YAML file, with its bounds and defaults.

The sections are in `data` and `learning`; `load` reads them from YAML.
``python -m flashlogit.config.settings`` prints the JSON schema that editors complete from (configs/schema.json).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema

from .base import Conflict, Settings, WholeNumber, without_fraction
from .data import Data, FileData
from .learning import LossSettings, SolverSettings, TrainingSettings


class ReportSettings(Settings):
    """What is measured on the trained model."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a row is called positive."""
    calibration_bins: Annotated[int, Field(ge=2, le=1000), BeforeValidator(without_fraction)] = 10
    """Equal-width probability bins of the calibration curve and error."""
    html: bool = True
    """Write report.html, a page that needs nothing else, and its charts as PNG to `pictures/` in the run's folder."""
    tensorboard: bool = False
    """Also write the history and metrics for TensorBoard, to `tensorboard/` in the run's folder; needs
    `pip install 'flashlogit[tensorboard]'`."""


def _said(pattern: str) -> dict[str, Any]:
    """A pattern in words, under the keyword that editors and `flashlogit.config.load` show instead of it."""
    return {"patternErrorMessage": f"must be {pattern}"}


class RunSettings(Settings):
    """One training run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        json_schema_extra=_said("made of letters, digits, '.', '_' and '-', with a letter or digit first"),
    )
    """Name of the run; its results go to `<output>/<name>/`."""
    output: str = "runs"
    """Folder that holds the runs."""
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$",
        json_schema_extra=_said("auto, cpu, cuda or cuda:N with the number of a device"),
    )
    """`auto` (a CUDA device if there is one), `cpu`, `cuda` or `cuda:N`."""
    seed: WholeNumber = Field(default=0, ge=0, lt=2**32)
    """Seed of the split, the shuffling and synthetic data."""
    backend: Literal["auto", "triton", "torch"] = "auto"
    """What computes loss and gradient: the fused Triton kernel or the pure-torch reference."""
    data: Data
    """Where the rows come from: breast_cancer, synthetic or file."""
    loss: LossSettings = LossSettings()
    """What training minimises."""
    training: TrainingSettings = TrainingSettings()
    """How training by mini-batches goes about it."""
    solver: SolverSettings | None = None
    """Go to the optimum with a full-batch solver instead of training by mini-batches."""
    report: ReportSettings = ReportSettings()
    """How the trained model is judged."""

    @model_validator(mode="before")
    @classmethod
    def _no_training_is_none(cls, tree: Any) -> Any:
        """`training: null` leaves the section out, so that the command line can put `solver` in its place."""
        if isinstance(tree, dict) and tree.get("solver") and "training" in tree and tree["training"] is None:
            return {key: value for key, value in tree.items() if key != "training"}
        return tree

    @model_validator(mode="after")
    def _one_way_to_learn(self) -> Self:
        if self.solver and "training" in self.model_fields_set:
            remedy = "keep one of them (training=null leaves that section out)"
            raise Conflict("given beside `solver`", "training", "solver", remedy=remedy)
        if self.loss.l1 > 0 and not self.solver:
            problem = f"{self.loss.l1:g}, which mini-batch training cannot minimise"
            remedy = "add a section `solver` (`solver: {name: auto}`), or set loss.l1 to 0"
            raise Conflict(problem, "loss.l1", "solver", remedy=remedy)
        return self

    @model_validator(mode="after")
    def _early_stopping_has_rows_to_watch(self) -> Self:
        own_file = isinstance(self.data, FileData) and self.data.validation_path is not None
        if self.training.early_stopping and self.data.split.validation == 0 and not own_file:
            raise Conflict(
                "watches the validation rows, and data.split.validation is 0",
                "training.early_stopping",
                "data.split.validation",
                remedy="raise that fraction, or set training.early_stopping to null",
            )
        return self


class _UntitledFields(GenerateJsonSchema):
    """pydantic's schema without a title for every field: editors would show `Lr` above what `lr` means."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> str:
    """The JSON schema of a config file, as text."""
    schema = RunSettings.model_json_schema(schema_generator=_UntitledFields)
    return json.dumps({"$schema": _UntitledFields.schema_dialect, **schema}, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
