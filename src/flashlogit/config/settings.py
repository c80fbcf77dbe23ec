"""The settings of a run: what may stand in a YAML file, with its bounds and defaults.

The section `data` has a module of its own; `load` reads all of them from YAML.
``python -m flashlogit.config.settings`` prints the JSON schema that editors complete from (configs/schema.json).
"""

from __future__ import annotations

import ast
import inspect
import json
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator
from pydantic.json_schema import GenerateJsonSchema

from .data import Conflict, Data, FileData, Penalty, Rate, Settings, WholeNumber, without_fraction
from .grid import GridSettings


class ClassWeight(Settings):
    """A factor on the weight of every row of a class."""

    negative: float = Field(default=1.0, ge=1e-12, le=1e12)
    """Factor of the negative rows."""
    positive: float = Field(default=1.0, ge=1e-12, le=1e12)
    """Factor of the positive rows."""


class LossSettings(Settings):
    """The training objective: clamped binary cross-entropy plus an l2 penalty."""

    eps: float = Field(default=1e-8, ge=0, lt=0.5)
    """Probabilities are clamped to [eps, 1 - eps]; 0 for the exact logistic loss."""
    clamp_gradient: Literal["through", "exact"] = "through"
    """Gradient of a clamped row: p - y as by hand (`through`), or 0 as autograd gives it (`exact`)."""
    l1: Penalty = 0.0
    """Adds l1 * ||w||_1 to the objective, which makes weights exactly zero; for solvers only."""
    l2: Penalty = 0.0
    """The objective is the weighted mean loss + l2/2 * ||w||^2; the intercept is not penalised."""
    class_weight: ClassWeight | Literal["balanced"] | None = None
    """`balanced` gives both classes the same total weight; or {negative: a, positive: b}."""

    @model_validator(mode="after")
    def _both_classes_count(self) -> Self:
        if isinstance(self.class_weight, ClassWeight):
            low, high = sorted((self.class_weight.negative, self.class_weight.positive))
            if high > 1e12 * low:
                problem = (
                    f"has the factors {low:g} and {high:g}; the greater must be at most 1e12 times the other, or the"
                    " other's rows would not count"
                )
                raise Conflict(problem, "class_weight")
        return self


DecayRate = Annotated[float, Field(ge=0, lt=1)]


class _AdamFamily(Settings):
    name: str
    """Which optimizer this is."""
    lr: Rate = Field(default=0.05, gt=0)
    """Learning rate: about how far a weight moves in one step."""
    # YAML has lists only, and a strict tuple takes none.
    betas: Annotated[tuple[DecayRate, DecayRate], Strict(False)] = (0.9, 0.999)
    """Decay, per step, of the running means of the gradient and of its square."""


class Adam(_AdamFamily):
    """torch.optim.Adam."""

    name: Literal["adam"]
    """torch.optim.Adam."""


class AdamW(_AdamFamily):
    """torch.optim.AdamW; its decay is decoupled from the loss and never touches the intercept."""

    name: Literal["adamw"]
    """torch.optim.AdamW: Adam with weight decay of its own."""
    weight_decay: Rate = 0.0
    """Every step shrinks the weights by the factor 1 - lr * weight_decay, apart from `loss.l2`."""


class SGD(Settings):
    """torch.optim.SGD."""

    name: Literal["sgd"]
    """torch.optim.SGD: gradient steps with momentum."""
    lr: Rate = Field(default=0.5, gt=0)
    """Learning rate: the factor on the gradient."""
    momentum: DecayRate = 0.9
    """Share of the last step that carries over into the next; 0 for plain gradient steps."""
    nesterov: bool = False
    """Take Nesterov's look-ahead gradient; needs momentum."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            remedy = "set momentum above 0, or nesterov to false"
            raise Conflict("true with momentum 0", "nesterov", "momentum", remedy=remedy)
        return self


Optimizer = Annotated[Adam | AdamW | SGD, Field(discriminator="name")]


class ConstantSchedule(Settings):
    """The learning rate stays as it is."""

    name: Literal["constant"]
    """No change of the learning rate."""


class CosineSchedule(Settings):
    """torch's CosineAnnealingLR over all epochs."""

    name: Literal["cosine"]
    """Down along half a cosine wave."""
    final_lr: Rate = 0.0
    """The learning rate of the end."""


class StepSchedule(Settings):
    """torch's StepLR."""

    name: Literal["step"]
    """Down in steps."""
    every: WholeNumber = Field(default=10, ge=1)
    """Epochs between two steps."""
    factor: float = Field(default=0.1, gt=0, le=1)
    """The learning rate is multiplied by this at every step."""


class ExponentialSchedule(Settings):
    """torch's ExponentialLR."""

    name: Literal["exponential"]
    """Down by the same factor after every epoch."""
    factor: float = Field(default=0.95, gt=0, le=1)
    """The learning rate is multiplied by this after every epoch."""


Schedule = Annotated[
    ConstantSchedule | CosineSchedule | StepSchedule | ExponentialSchedule, Field(discriminator="name")
]


class EarlyStopping(Settings):
    """Stop when the validation loss no longer falls, and restore the best epoch's weights."""

    patience: WholeNumber = Field(default=10, ge=1)
    """Epochs without improvement before training stops."""
    min_delta: float = Field(default=0.0, ge=0)
    """A smaller fall of the validation loss than this is no improvement."""


class TrainingSettings(Settings):
    """The mini-batch loop."""

    epochs: WholeNumber = Field(default=50, ge=1)
    """Passes over the training rows; early stopping may end sooner."""
    batch_size: WholeNumber = Field(default=1024, ge=1)
    """Rows in a mini-batch; more than there are means full-batch steps."""
    optimizer: Optimizer = Adam(name="adam")
    """What turns gradients into steps: adam, adamw or sgd."""
    schedule: Schedule = ConstantSchedule(name="constant")
    """How the learning rate changes from epoch to epoch: constant, cosine, step or exponential."""
    early_stopping: EarlyStopping | None = None
    """When to stop before the last epoch; null trains them all."""
    checkpoint_every: WholeNumber = Field(default=10, ge=1)
    """Epochs between two checkpoints (the last epoch always leaves one)."""


class SolverSettings(Settings):
    """A full-batch solver that goes to the optimum of the unclamped objective and proves how near it is."""

    name: Literal["auto", "lbfgs", "newton", "newton-cg"] = "auto"
    """`auto` chooses by rows, columns, penalty and device."""
    tolerance: float = Field(default=1e-6, ge=1e-30, lt=1)
    """Largest duality gap to stop at, as a share of the objective of the intercept-only model."""
    max_iterations: WholeNumber = Field(default=1000, ge=1)
    """Evaluations of the objective, at most."""
    intercept: bool = True
    """Whether the model has an intercept, which is never penalised."""
    start: str | None = None
    """A run directory or model file whose parameters to start from; null starts from nothing."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Time between two checkpoints, from which --resume goes on as if the run had not stopped; 0 writes one at every
    iteration."""


class ReportSettings(Settings):
    """What is measured on the trained model."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a row is called positive."""
    calibration_bins: Annotated[int, Field(ge=2, le=1000), BeforeValidator(without_fraction)] = 10
    """Equal-width bins of the calibration error, and groups of equally many rows of the calibration curve."""
    html: bool = True
    """Write report.html, a page that needs nothing else."""
    pictures: bool = False
    """Also write the report's charts as PNG, to `pictures/` in the run's folder."""
    tensorboard: bool = False
    """Also write the history and metrics for TensorBoard, to `tensorboard/` in the run's folder; needs
    `pip install 'flashlogit[tensorboard]'`."""


def _said(pattern: str) -> dict[str, Any]:
    """Return a pattern in words, under the keyword that editors and `flashlogit.config.load` show instead of it."""
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
    backend: Literal["auto", "triton", "numba", "torch"] = "auto"
    """What computes loss and gradient: the fused Triton kernel, loops compiled for the CPU, or pure torch."""
    data: Data
    """Where the rows come from: breast_cancer, digits, synthetic or file."""
    loss: LossSettings = LossSettings()
    """What training minimises."""
    training: TrainingSettings = TrainingSettings()
    """How training by mini-batches goes about it."""
    solver: SolverSettings | None = None
    """Go to the optimum with a full-batch solver instead of training by mini-batches."""
    grid: GridSettings | None = None
    """Choose the penalty by cross-validation; for solvers only."""
    report: ReportSettings = ReportSettings()
    """How the trained model is judged."""

    @model_validator(mode="before")
    @classmethod
    def _no_training_is_none(cls, tree: Any) -> Any:
        """`training: null` leaves the section out, so that the command line can put `solver` in its place."""
        if isinstance(tree, dict) and tree.get("solver") and "training" in tree and tree["training"] is None:
            return {key: value for key, value in tree.items() if key != "training"}
        return tree

    def resolved(self) -> Self:
        """Return the settings with `data.categories.baseline: auto` made true or false.

        Without an intercept a reference would take from what the model can say, and not only from how it says it.
        """
        data, loss, solver = self.data, self.loss, self.solver
        if not isinstance(data, FileData) or data.categories.baseline != "auto":
            return self
        unpenalised = not self.grid and loss.l1 == 0 and loss.l2 == 0
        baseline = solver is not None and solver.intercept and unpenalised
        categories = data.categories.model_copy(update={"baseline": baseline})
        return self.model_copy(update={"data": data.model_copy(update={"categories": categories})})

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
    def _one_penalty(self) -> Self:
        if self.grid is None:
            return self
        if not self.solver:
            remedy = "add a section `solver` (`solver: {name: auto}`), or leave out `grid`"
            raise Conflict("given without `solver`, and mini-batches have no grid", "grid", "solver", remedy=remedy)
        for name in ("l1", "l2"):
            if (value := getattr(self.loss, name)) > 0:
                remedy = f"leave out loss.{name}, and list its value in grid.l2 if it is to be tried"
                raise Conflict(
                    f"{value:g} beside `grid`, which chooses the penalty", f"loss.{name}", "grid", remedy=remedy
                )
        return self

    @model_validator(mode="after")
    def _targets_have_a_solver_of_their_own(self) -> Self:
        if getattr(self.data, "targets", None) is None:
            return self
        if not self.solver:
            remedy = "add a section `solver` (`solver: {name: auto}`)"
            raise Conflict("needs a solver, for mini-batches train one model", "data.targets", "solver", remedy=remedy)
        for key, value, usual in (
            ("solver.name", self.solver.name, "auto"),
            ("solver.start", self.solver.start, None),
            ("loss.class_weight", self.loss.class_weight, None),
            ("report.pictures", self.report.pictures, False),
            ("report.tensorboard", self.report.tensorboard, False),
        ):
            if value != usual:
                problem = "set beside `data.targets`, whose models are all solved side by side"
                raise Conflict(problem, key, "data.targets", remedy="leave it out")
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


def _meanings(section: type[Settings]) -> dict[str, str]:
    """Return the docstring below each field, read from the source; those of subclasses count before their bases'."""
    sources = map(inspect.getsource, reversed(section.__mro__[: section.__mro__.index(Settings)]))
    bodies: Any = [ast.parse(source).body[0] for source in sources]
    pairs = (pair for definition in bodies for pair in pairwise(definition.body))
    fields = ((ast.unparse(field.target), text) for field, text in pairs if isinstance(field, ast.AnnAssign))
    texts = ((name, text.value) for name, text in fields if isinstance(text, ast.Expr))
    # A key that is a keyword of Python, `from`, is a field with an underscore.
    return {name.rstrip("_"): inspect.cleandoc(ast.literal_eval(text)) for name, text in texts}


class _Described(GenerateJsonSchema):
    """pydantic's schema with the docstrings of the fields, and without their titles: editors would show `Lr` above what
    `lr` means.

    pydantic's own way to have them (`use_attribute_docstrings`) reads the source of every section when it is imported,
    which takes each command a fifth of a second.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        found = super().model_schema(schema)
        for name, meaning in _meanings(schema["cls"]).items():
            found["properties"][name]["description"] = meaning
        return found


def json_schema() -> str:
    """Return the JSON schema of a config file, as text."""
    schema = RunSettings.model_json_schema(schema_generator=_Described)
    return json.dumps({"$schema": _Described.schema_dialect, **schema}, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
