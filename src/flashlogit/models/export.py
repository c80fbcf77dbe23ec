"""A model for other programs: an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..system.errors import UserError
from ..system.files import write_atomically

Array = NDArray[Any]
_MODEL = """
<ir_version: 8, opset_import: ["": 17], producer_name: "flashlogit">
flashlogit (%(number)s[n, %(D)d] X) => (%(label)s[n] label, %(number)s[n, %(K)d] probabilities) {
    wide = Cast <to = 11> (X)
    products = MatMul (wide, coef)
    logits = Add (products, intercept)
    p = Softmax <axis = 1> (logits)
    place = ArgMax <axis = 1, keepdims = 0> (logits)
    label = Gather (classes, place)
    probabilities = Cast <to = %(code)d> (p)
}
"""
"""The model in ONNX's own text; 11 and 1 are its codes for double and float."""


def write_onnx(
    path: Path, coef: Array, intercept: Array, classes: Array, feature_names: Sequence[Any] | Array | None = None
) -> None:
    """Write an ONNX model: input X [n, D], outputs label [n] and probabilities [n, K].

    One matrix is what a model of numbers alone is fitted to and asked with; where columns have types of their own,
    `flashlogit.models.onnx_columns` makes an input of each.

    Numbers are of the coefficients' dtype, computed in float64: in float32 products of raw columns leave 2e-6 of a
    probability. Labels are int64, or strings.

    Args:
        path: the file.
        coef: [1, D] for two classes, or [K, D], in the units of X.
        intercept: [1] or [K].
        classes: [K] labels.
        feature_names: [D], which the model keeps as a property.

    Raises:
        UserError: the package onnx is not installed, or labels are neither whole numbers (of 64 bits) nor strings.
    """
    onnx = required_onnx()
    classes = onnx_labels(classes)
    number = "double" if coef.dtype == np.float64 else "float"
    if len(coef) == 1:
        # Softmax of (0, z): onnxruntime's Sigmoid gives 0 for a logit of -40, and 1 - p would too.
        coef, intercept = np.vstack([0 * coef, coef]), np.append(0 * intercept, intercept)
    (K, D), label = coef.shape, "int64" if classes.dtype.kind == "i" else "string"
    model = onnx.parser.parse_model(
        _MODEL % {"number": number, "label": label, "D": D, "K": K, "code": 11 if number == "double" else 1}
    )
    constants = {"coef": coef.T.astype(np.float64, order="C"), "intercept": intercept.astype(np.float64)}
    for name, value in {**constants, "classes": classes}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    if feature_names is not None:
        onnx.helper.set_model_props(model, {"feature_names": "\n".join(map(str, feature_names))})
    save_onnx(path, model)


def required_onnx() -> Any:
    """Return the package onnx; UserError where it is not installed."""
    try:
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnx.parser
    except ModuleNotFoundError as error:
        problem = "writing ONNX needs the package onnx, which is not installed"
        raise UserError(problem, remedy="pip install 'flashlogit[onnx]'") from error
    return onnx


def save_onnx(path: Path, model: Any) -> None:
    """Write an onnx.ModelProto in one step, once it is known to be valid."""
    required_onnx().checker.check_model(model)
    content = model.SerializeToString()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def onnx_labels(classes: Array) -> Array:
    """Return labels [K] as ONNX has them, int64 or strings; UserError for others."""
    if classes.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):
            numbers = classes.astype(np.int64)
        if np.array_equal(numbers, classes):
            return numbers
    elif all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    problem = "ONNX knows whole numbers of 64 bits and strings as labels"
    raise UserError(problem, setting="classes", value=classes.tolist()[:3], remedy="train on such labels")
