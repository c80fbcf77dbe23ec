"""A trained model as a file: what is needed to turn a row of the user's table into a probability.

`raw_coefficients` gives a saved one as scikit-learn has it: coefficients on the user's own columns, sorted classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.columns.encoding import NUMBER, Codes, Encoding, Layout, Standardization
from ..system.decoding import decoded, parsed
from ..system.errors import UserError
from ..system.safetensors_file import read_safetensors, write_safetensors

if TYPE_CHECKING:  # it needs Arrow, for which a model that is served does not wait
    from ..data.columns.labels import Rule

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

    def logits(self, codes: Codes) -> NDArray[np.float64]:
        """Return z [n] or [n, K] float64 of rows in the user's units, encoded as `encoding` has it; where that is None
        their numbers [n, D] are in the order of feature_names.

        Raises:
            UserError: a logit near the end of float64's range, which finite values of a usual size do not give.
        """
        terms = self.terms
        numbers, weight = codes.numbers, terms.weight
        z = np.empty((len(numbers), len(weight)))
        rows = max(1, _CHUNK // max(numbers.shape[1], 1))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(numbers), rows):
                # Centred, since a far mean costs no digits so; the scale goes into the weights, fewer than the values.
                centred = numbers[start : start + rows] - terms.mean
                # For one vector not `@`: BLAS's threads cost it more than the product itself (measured 1.2 ms for a
                # block of 2,900 x 181 against einsum's 0.25, on 2 cores that had other work).
                z[start : start + rows] = (
                    np.einsum("ij,j->i", centred, weight[0])[:, None] if len(weight) == 1 else centred @ weight.T
                )
            if codes.buckets.shape[1]:
                z += terms.of_buckets[codes.buckets + terms.places].sum(axis=1)
            z += terms.constant
        if not (np.abs(z) <= _LARGEST_LOGIT).all():  # NaN is not either
            problem = f"they have a row whose logit is beyond {_LARGEST_LOGIT:g}, from which no probability follows"
            remedy = "correct its values, or train the model again on columns of a usual size"
            raise UserError(problem, setting="the data", remedy=remedy)
        return z[:, 0] if self.weight.ndim == 1 else z

    @cached_property
    def terms(self) -> Terms:
        """What the logits are sums of."""
        layout = Layout.of([NUMBER] * self.weight.shape[-1]) if self.encoding is None else self.encoding.layout
        mean, scale = self.standardization.mean, self.standardization.scale
        weight = np.atleast_2d(self.weight.astype(np.float64)) / scale
        in_buckets = np.ones(len(mean), np.bool_)
        in_buckets[layout.numbers] = False
        rows = [np.zeros((0, len(weight)))]
        for start, width in zip(layout.starts.tolist(), layout.widths.tolist(), strict=True):
            rows += [np.zeros((1, len(weight))), weight[:, start : start + width].T]
        places = np.cumsum(layout.widths + 1) - layout.widths
        constant = self.bias.astype(np.float64) - weight[:, in_buckets] @ mean[in_buckets]
        return Terms(weight[:, layout.numbers], mean[layout.numbers], np.concatenate(rows), places, constant)

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
        from ..data.columns.labels import rule_to_json

        of_columns = self.standardization
        about = {each.name: getattr(self, each.name) for each in fields(_Header)} | {
            "standardization": {"mean": of_columns.mean.tolist(), "scale": of_columns.scale.tolist()},
            "encoding": None if self.encoding is None else self.encoding.to_json(),
            "rule": None if self.rule is None else rule_to_json(self.rule),
        }
        tensors = {"weight": np.atleast_2d(self.weight), "bias": self.bias.reshape(-1)}
        write_safetensors(path, tensors, kind="model", content=about)

    @classmethod
    def load(cls, path: Path, *, rule: bool = True) -> Model:
        """Read a model file, or the model of a run directory; without its label rule where that has no use.

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
        tensors, header = read_safetensors(file_path, kind="model", content=_header, remedy=_REMEDY)
        try:
            return _checked(tensors, header, rule)
        except (ValueError, LookupError) as error:  # the latter for an encoding of text that there is not
            raise UserError(f"is no model that can be used ({error})", setting=file_path, remedy=_REMEDY) from error


@dataclass(frozen=True)
class Terms:
    """The logit as a sum: weight [K, P] times the numbers less their mean [P], the row of of_buckets [B, K] at each
    bucket's number plus its place [Q], and the constant [K]."""

    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    of_buckets: NDArray[np.float64]
    places: NDArray[np.intp]
    constant: NDArray[np.float64]


@dataclass(frozen=True)
class _StandardizationInJson:
    """Means and scales of the columns."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True)
class _Header:
    """What a model file has beside its tensors. Its fields are those of `Model`."""

    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    standardization: _StandardizationInJson
    eps: float
    threshold: float
    array_widths: tuple[int, ...]
    # Files of earlier versions lack these.
    encoding: Any = None
    rule: Any = None


def _header(text: str) -> _Header:
    """Return the header of a file's JSON; ValueError for one that no model has."""
    header: _Header = decoded(_Header, parsed(text))
    for name, least in (("feature_names", 1), ("label_names", 2)):
        if len(getattr(header, name)) < least:
            raise ValueError(f"{name} has too few names")
    if not (0 <= header.eps < 0.5 and 0 < header.threshold < 1):
        raise ValueError(f"eps is {header.eps} and threshold {header.threshold}")
    if not all(1 <= width < 2**31 for width in header.array_widths):
        raise ValueError("array_widths has a width that none has")
    if not all(scale > 0 for scale in header.standardization.scale):
        raise ValueError("a scale is not above 0")
    return header


def _checked(tensors: dict[str, NDArray[Any]], header: _Header, with_rule: bool) -> Model:
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
    encoding = None if header.encoding is None else Encoding.from_json(header.encoding)
    if encoding is not None and encoding.features != header.feature_names:
        raise ValueError("its encoding makes other columns than it has weights for")
    rule: Rule | None = None
    if with_rule and header.rule is not None:
        from ..data.columns.labels import rule_from_json

        rule = rule_from_json(header.rule)
        if rule.names != header.label_names:
            raise ValueError("its label rule has other classes than it has names for")
    same = {each.name: getattr(header, each.name) for each in fields(_Header)}
    same |= {"standardization": Standardization(mean, scale), "encoding": encoding, "rule": rule}
    model = Model(weight=weight[0] if K == 2 else weight, bias=bias, **same)
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
    encoded: bool
    """Whether an encoding made the columns of a file's."""
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
    classes = class_labels(model.label_names)
    # scikit-learn takes classes_ for sorted; a run has the positive class last, whatever it is called.
    order = np.argsort(classes)
    if len(weight) > 1:
        weight, intercept = weight[order], intercept[order]
    elif order[0] == 1:
        weight, intercept = -weight, -intercept
    encoded = model.encoding is not None
    names = model.feature_names
    return RawCoefficients(weight, intercept, classes[order], names, encoded, run.iterations, run.relative_gap)


def class_labels(names: tuple[str, ...]) -> NDArray[Any]:
    """Return them as integers where they are written as these are: "01" is a name."""
    try:
        numbers = np.array([int(name) for name in names], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(names)
    return numbers if [str(number) for number in numbers.tolist()] == list(names) else np.array(names)


@dataclass(frozen=True)
class _Run:
    """What metrics.json says about the fit of a solver."""

    iterations: int = 0
    relative_gap: float | None = None


def _run_of(directory: Path) -> _Run:
    """Return what a run says of itself, or as a run without a solver where it says nothing that can be used."""
    try:
        run = parsed((directory / "metrics.json").read_bytes())["run"]
        found: _Run = decoded(_Run, {each.name: run[each.name] for each in fields(_Run) if each.name in run})
    except (OSError, ValueError, LookupError, TypeError):
        return _Run()
    return found if 0 <= found.iterations < 2**31 else _Run()
