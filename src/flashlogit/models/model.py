"""A trained model as a file: what is needed to turn a row of the user's table into a probability.

`raw_coefficients` gives a saved one as scikit-learn has it: coefficients on the user's own columns, sorted classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasPath, BaseModel, ConfigDict, Field

from ..config.data import Settings
from ..data.columns.encoding import Encoding, EncodingInJson, Standardization
from ..data.columns.labels import Rule, RuleInJson, rule_to_json
from ..system.errors import UserError
from ..system.safetensors_file import read_safetensors, write_safetensors

_REMEDY = "give a run directory or its model.safetensors, copied again or trained again where it is damaged"
_LARGEST_LOGIT = 1e307
"""Largest absolute value of a logit: the difference of two is still finite."""
_CHUNK = 1 << 16
"""Values of a block that are centred at a time, so that they are in the cache when they are multiplied."""


@dataclass(frozen=True)
class Model:
    """Weights on standardised columns, and how to get there from the user's own columns."""

    weight: NDArray[Any]
    """[D] in the dtype of training, float32 or float64; [K, D] for K > 2 classes."""
    bias: NDArray[Any]
    """[1], or [K]."""
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    """The negative and the positive class, or K of them."""
    standardization: Standardization
    eps: float
    """The clamp of the training loss."""
    threshold: float
    """The probability from which a row is called positive."""
    array_widths: tuple[int, ...] = ()
    """As in `Dataset`."""
    encoding: Encoding | None = None
    """How the features are made of a file's columns; None where they are those."""
    rule: Rule | None = None
    """What a label column means; None where the labels were no file's, and in files of earlier versions."""

    def logits(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return z [n] or [n, K] float64 of rows [n, D] in the user's units, columns in the order of feature_names.

        Raises:
            UserError: a logit near the end of float64's range, which finite values of a usual size do not give.
        """
        # Centred, since a far mean costs no digits so; the scale goes into the weights, fewer than the values.
        weight = self.weight.astype(np.float64) / self.standardization.scale
        z = np.empty((len(block), *weight.shape[:-1]))
        rows = max(1, _CHUNK // block.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(block), rows):
                centred = block[start : start + rows] - self.standardization.mean
                # For one vector not `@`: BLAS's threads cost it more than the product itself (measured 1.2 ms for a
                # block of 2,900 x 181 against einsum's 0.25, on 2 cores that had other work).
                z[start : start + rows] = (
                    np.einsum("ij,j->i", centred, weight) if weight.ndim == 1 else centred @ weight.T
                )
            z += self.bias.astype(np.float64)
        if not (np.abs(z) <= _LARGEST_LOGIT).all():  # NaN is not either
            problem = f"they have a row whose logit is beyond {_LARGEST_LOGIT:g}, from which no probability follows"
            remedy = "correct its values, or train the model again on columns of a usual size"
            raise UserError(problem, setting="the data", remedy=remedy)
        return z

    def raw(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights [K, D] and intercepts [K], [1, D] and [1] for two classes, on columns in the user's units.

        Standardisation (x - m) / d is undone: w_j / d_j, and b - sum_j m_j w_j / d_j.
        """
        weight = np.atleast_2d(self.weight.astype(np.float64)) / self.standardization.scale
        return weight, self.bias.astype(np.float64) - weight @ self.standardization.mean

    def threshold_or(self, given: float | None) -> float:
        """Return the threshold that --threshold gave, or else the model's own.

        Raises:
            UserError: it is not within (0, 1), or the model has more than two classes.
        """
        if given is None:
            return self.threshold
        if not 0 < given < 1:
            raise UserError("must lie between 0 and 1", setting="--threshold", value=given)
        if len(self.label_names) > 2:
            problem = f"the model has {len(self.label_names)} classes, the likeliest of which is predicted"
            raise UserError(problem, setting="--threshold", value=given, remedy="leave it out")
        return given

    def save(self, path: Path) -> None:
        """Write a safetensors file whose tensors are the state_dict of torch.nn.Linear(D, 1), or Linear(D, K)."""
        of_columns = self.standardization
        about = {name: getattr(self, name) for name in _Header.model_fields} | {
            "standardization": {"mean": of_columns.mean.tolist(), "scale": of_columns.scale.tolist()},
            "encoding": None if self.encoding is None else self.encoding.to_json(),
            "rule": None if self.rule is None else rule_to_json(self.rule),
        }
        tensors = {"weight": np.atleast_2d(self.weight), "bias": self.bias.reshape(-1)}
        write_safetensors(path, tensors, kind="model", content=about)

    @classmethod
    def load(cls, path: Path) -> Model:
        """Read a model file, or the model of a run directory.

        Raises:
            UserError: no such file, a damaged one, or one with a part that no trained model has.
        """
        file_path = path / "model.safetensors" if path.is_dir() else path
        if not file_path.is_file():
            remedy = "give a run directory or its model.safetensors"
            if several := sorted(path.glob("targets/*/model.safetensors")):
                problem = f"is a run of {len(several):,} targets, each of which has a model of its own"
                raise UserError(problem, setting=path, remedy=f"give one of them, such as {several[0].parent}")
            raise UserError("there is no model", setting=file_path, remedy=remedy)
        tensors, header = read_safetensors(file_path, kind="model", content=_Header, remedy=_REMEDY)
        try:
            return _checked(tensors, header)
        except ValueError as error:
            raise UserError(f"is no model that can be used ({error})", setting=file_path, remedy=_REMEDY) from error


class _StandardizationInJson(Settings):
    """Means and scales of the columns."""

    mean: tuple[float, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]


class _Header(Settings):
    """What a model file has beside its tensors. Its fields are those of `Model`."""

    feature_names: tuple[str, ...] = Field(min_length=1)
    label_names: tuple[str, ...] = Field(min_length=2)
    standardization: _StandardizationInJson
    eps: float = Field(ge=0, lt=0.5)
    threshold: float = Field(gt=0, lt=1)
    array_widths: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...]
    # Files of earlier versions lack these.
    encoding: EncodingInJson | None = None
    rule: RuleInJson | None = None


def _checked(tensors: dict[str, NDArray[Any]], header: _Header) -> Model:
    """Return the model of a file.

    Raises:
        ValueError: its parts do not fit together, or its numbers are none to compute with.
    """
    D, K = len(header.feature_names), len(header.label_names)
    outputs = 1 if K == 2 else K
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes != {"weight": (outputs, D), "bias": (outputs,)}:
        found = ", ".join(f"{name[:40]} {list(shape)}" for name, shape in list(shapes.items())[:4])
        raise ValueError(
            f"{K} classes and {D:,} columns need weight [{outputs}, {D}] and bias [{outputs}], and it has {found}"
        )
    mean, scale = np.array(header.standardization.mean), np.array(header.standardization.scale)
    if not len(mean) == len(scale) == D:
        raise ValueError(f"it has {D:,} columns, {len(mean):,} means and {len(scale):,} scales")
    for what, names in {"columns": header.feature_names, "classes": header.label_names}.items():
        if len({*names}) < len(names):
            raise ValueError(f"two of its {what} have the same name")
    weight, bias = tensors["weight"], tensors["bias"]
    if not {weight.dtype, bias.dtype} <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise ValueError(f"weight is {weight.dtype} and bias {bias.dtype}, and not float32 or float64")
    assert not isinstance(header.encoding, tuple)
    if header.encoding is not None and header.encoding.features != header.feature_names:
        raise ValueError("its encoding makes other columns than it has weights for")
    if header.rule is not None and header.rule.names != header.label_names:
        raise ValueError("its label rule has other classes than it has names for")
    fields = {name: getattr(header, name) for name in _Header.model_fields}
    fields["standardization"] = Standardization(mean, scale)
    model = Model(weight=weight[0] if K == 2 else weight, bias=bias, **fields)
    with np.errstate(over="ignore", invalid="ignore"):
        if not all(np.isfinite(each).all() for each in (bias, *model.raw())):
            raise ValueError("its coefficients are not finite")
    return model


@dataclass(frozen=True)
class RawCoefficients:
    """What an estimator takes of a saved model."""

    coef: NDArray[np.float64]
    """[1, D], or [K, D], on columns in the user's units."""
    intercept: NDArray[np.float64]
    """[1], or [K]."""
    classes: NDArray[Any]
    """[K], sorted."""
    feature_names: tuple[str, ...]
    iterations: int
    gap: float | None
    """As a share of the null model's objective; None where the run had no solver."""


def raw_coefficients(path: Path) -> RawCoefficients:
    """Read a run directory or its model.safetensors.

    Label names that are whole numbers become numbers; classes are sorted, and the coefficients with them.

    Raises:
        UserError: no such model.
    """
    model = Model.load(path)
    weight, intercept = model.raw()
    run = _run_of(path if path.is_dir() else path.parent)
    classes = _labels(model.label_names)
    # scikit-learn takes classes_ for sorted; a run has the positive class last, whatever it is called.
    order = np.argsort(classes)
    if len(weight) > 1:
        weight, intercept = weight[order], intercept[order]
    elif order[0] == 1:
        weight, intercept = -weight, -intercept
    return RawCoefficients(weight, intercept, classes[order], model.feature_names, run.iterations, run.relative_gap)


def _labels(names: tuple[str, ...]) -> NDArray[Any]:
    """Return them as integers where they are written as these are: "01" is a name."""
    try:
        numbers = np.array([int(name) for name in names], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(names)
    return numbers if [str(number) for number in numbers.tolist()] == list(names) else np.array(names)


class _Run(BaseModel):
    """What metrics.json says about the fit of a solver."""

    model_config = ConfigDict(strict=True)

    iterations: int = Field(default=0, ge=0, lt=2**31, validation_alias=AliasPath("run", "iterations"))
    relative_gap: float | None = Field(default=None, validation_alias=AliasPath("run", "relative_gap"))


def _run_of(directory: Path) -> _Run:
    """Return what a run says of itself, or as a run without a solver where it says nothing that can be used."""
    try:
        return _Run.model_validate_json((directory / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return _Run()
