"""The sections `loss`, `training` and `solver`: what is minimised, and in which of two ways."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from .base import Conflict, Penalty, Rate, Settings, WholeNumber


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
