"""The settings of a run: what may stand in a YAML file, with its bounds and defaults.

Only the shape of the settings lives here; `flashlogit.config_file` reads them from YAML and words the errors.
``python -m flashlogit.config`` prints the JSON schema that editors complete from (configs/schema.json).
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

StorageDtype = Literal["float64", "float32", "bfloat16", "float16"]
LabelValue = bool | int | float | str


class Settings(BaseModel):
    """Base of every section: unknown keys are refused, values cannot change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Label(Settings):
    """Which column is the label, and what in it counts as the positive class."""

    column: str | int = "y"
    """Column name; for a .npz file the name of its array; for a .npy file the column's number (-1 is the last)."""
    positive: LabelValue | None = None
    """The value that is the positive class; every other value is negative. Numbers 0/1 and -1/1 need none."""
    above: float | None = None
    """Positive where the label column is greater than this number (instead of `positive`)."""
    missing: Literal["error", "drop"] = "error"
    """What to do with rows that have no label."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.positive is not None and self.above is not None:
            raise ValueError("takes `positive` or `above`, not both")
        return self


class SplitFractions(Settings):
    """How rows are divided, class by class, into training, validation and test rows."""

    validation: float = Field(0.15, ge=0, lt=1)
    """Fraction of all rows that early stopping watches; 0 for none."""
    test: float = Field(0.15, ge=0, lt=1)
    """Fraction of all rows that training never sees; 0 for none."""

    @model_validator(mode="after")
    def _training_rows_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test is {self.validation + self.test:g}; must be less than 1, so that training rows remain"
            )
        return self


class DataSettings(Settings):
    """What every source of data has."""

    split: SplitFractions = SplitFractions()
    """Fractions of the rows for validation and test."""
    dtype: StorageDtype = "float32"
    """Storage dtype of X on the device. float64 trains in float64 arithmetic, the others in float32."""


class BreastCancerData(DataSettings):
    """scikit-learn's breast-cancer set (569 rows, 30 columns), which needs no download."""

    source: Literal["breast_cancer"]
    """Which kind of data this is."""
    label: Label = Label(column="diagnosis", positive="malignant")
    """The label column is `diagnosis`, with the values `malignant` and `benign`."""
    standardize: bool = True
    """Subtract the training rows' mean and divide by their standard deviation, column by column."""


class SyntheticData(DataSettings):
    """Standard normal columns and labels drawn from a logistic model, made on the device from the seed."""

    source: Literal["synthetic"]
    """Which kind of data this is."""
    rows: int = Field(100_000, ge=10)
    """Rows in all, before splitting."""
    columns: int = Field(28, ge=1)
    """Columns of X."""
    signal: float = Field(1.0, ge=0)
    """Standard deviation of the true logits; 0 makes the labels pure noise."""
    intercept: float = 0.0
    """The true intercept; moves the share of positive labels."""


class FileData(DataSettings):
    """The user's own .csv, .csv.gz, .parquet, .npy or .npz file."""

    source: Literal["file"]
    """Which kind of data this is."""
    path: str
    """The file with the training rows (and the others too, unless they have files of their own)."""
    validation_path: str | None = None
    """A file of its own for the validation rows, instead of `split.validation`."""
    test_path: str | None = None
    """A file of its own for the test rows, instead of `split.test`."""
    label: Label = Label()
    """The label column and its positive class."""
    weight: str | int | None = None
    """Column with one non-negative weight per row (for a .npz file the name of an array)."""
    columns: list[str | int] | None = None
    """Columns to use as features; default: all but the label, the weight and `drop`."""
    drop: list[str | int] = []
    """Columns to leave out."""
    standardize: bool = True
    """Subtract the training rows' mean and divide by their standard deviation, column by column."""


Data = Annotated[BreastCancerData | SyntheticData | FileData, Field(discriminator="source")]


class ClassWeight(Settings):
    """A factor on the weight of every row of a class."""

    negative: float = Field(1.0, gt=0)
    positive: float = Field(1.0, gt=0)


class LossSettings(Settings):
    """The training objective: clamped binary cross-entropy plus an l2 penalty."""

    eps: float = Field(1e-8, ge=0, lt=0.5)
    """Probabilities are clamped to [eps, 1 - eps]; 0 for the exact logistic loss."""
    clamp_gradient: Literal["through", "exact"] = "through"
    """Gradient of a clamped row: p - y as by hand (`through`), or 0 as autograd gives it (`exact`)."""
    l2: float = Field(0.0, ge=0)
    """The objective is the weighted mean loss + l2/2 * ||w||^2; the intercept is not penalised."""
    class_weight: ClassWeight | Literal["balanced"] | None = None
    """`balanced` gives both classes the same total weight; or {negative: a, positive: b}."""


class _AdamFamily(Settings):
    lr: float = Field(0.05, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)


class Adam(_AdamFamily):
    """torch.optim.Adam."""

    name: Literal["adam"]


class AdamW(_AdamFamily):
    """torch.optim.AdamW; its decay is decoupled from the loss and never touches the intercept."""

    name: Literal["adamw"]
    weight_decay: float = Field(0.0, ge=0)


class SGD(Settings):
    """torch.optim.SGD."""

    name: Literal["sgd"]
    lr: float = Field(0.5, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is true with momentum 0; set momentum above 0, or nesterov to false")
        return self


Optimizer = Annotated[Adam | AdamW | SGD, Field(discriminator="name")]


class ConstantSchedule(Settings):
    """The learning rate stays as it is."""

    name: Literal["constant"]


class CosineSchedule(Settings):
    """torch's CosineAnnealingLR over all epochs."""

    name: Literal["cosine"]
    final_lr: float = Field(0.0, ge=0)


class StepSchedule(Settings):
    """torch's StepLR."""

    name: Literal["step"]
    every: int = Field(10, ge=1)
    """Epochs between two steps."""
    factor: float = Field(0.1, gt=0, le=1)


class ExponentialSchedule(Settings):
    """torch's ExponentialLR."""

    name: Literal["exponential"]
    factor: float = Field(0.95, gt=0, le=1)
    """The learning rate is multiplied by this after every epoch."""


Schedule = Annotated[
    ConstantSchedule | CosineSchedule | StepSchedule | ExponentialSchedule, Field(discriminator="name")
]


class EarlyStopping(Settings):
    """Stop when the validation loss no longer falls, and restore the best epoch's weights."""

    patience: int = Field(10, ge=1)
    """Epochs without improvement before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """A smaller fall of the validation loss than this is no improvement."""


class TrainingSettings(Settings):
    """The mini-batch loop."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(1024, ge=1)
    """Rows in a mini-batch; more than there are means full-batch steps."""
    optimizer: Optimizer = Adam(name="adam")
    schedule: Schedule = ConstantSchedule(name="constant")
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = Field(10, ge=1)
    """Epochs between two checkpoints (the last epoch always leaves one)."""


class ReportSettings(Settings):
    """What is measured on the trained model."""

    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which a row is called positive."""
    calibration_bins: int = Field(10, ge=2, le=1000)
    """Equal-width probability bins of the calibration curve and error."""


class RunSettings(Settings):
    """One training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to `<output>/<name>/`."""
    output: str = "runs"
    """Folder that holds the runs."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    """`auto` (a CUDA device if there is one), `cpu`, `cuda` or `cuda:N`."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the split, the shuffling and synthetic data."""
    backend: Literal["auto", "triton", "torch"] = "auto"
    """What computes loss and gradient: the fused Triton kernel or the pure-torch reference."""
    data: Data
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _early_stopping_has_rows_to_watch(self) -> Self:
        own_file = isinstance(self.data, FileData) and self.data.validation_path is not None
        if self.training.early_stopping and self.data.split.validation == 0 and not own_file:
            raise ValueError(
                "training.early_stopping watches the validation rows, and data.split.validation is 0;"
                " raise that fraction, or set training.early_stopping to null"
            )
        return self


def json_schema() -> str:
    """The JSON schema of a config file, as text."""
    return json.dumps(RunSettings.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
