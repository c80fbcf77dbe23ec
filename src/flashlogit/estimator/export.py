"""A fitted model in other libraries' terms: scikit-learn's estimator, and ONNX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..system.errors import UserError
from ..system.files import write_atomically
from .arrays import numpy_of

if TYPE_CHECKING:
    from .logistic_regression import LogisticRegression

_OPSET = 17


def to_sklearn(estimator: LogisticRegression) -> Any:
    """A fitted `sklearn.linear_model.LogisticRegression` of the same coefficients, as NumPy arrays."""
    from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

    check_is_fitted(estimator)
    # What a clone of it would be fitted with: only saga takes an l1 term there.
    C = np.inf if estimator.penalty is None else estimator.C
    l1_ratio = {"l1": 1.0, "l2": 0.0}.get(estimator.penalty or "", estimator.l1_ratio)
    result = SklearnLogisticRegression(
        C=C,
        l1_ratio=l1_ratio,
        fit_intercept=estimator.fit_intercept,
        class_weight=estimator.class_weight,
        random_state=estimator.random_state,
        solver="saga" if l1_ratio > 0 and math.isfinite(C) else "lbfgs",
        max_iter=estimator.max_iter,
        warm_start=estimator.warm_start,
    )
    result.coef_ = numpy_of(estimator.coef_).copy()
    result.intercept_ = numpy_of(estimator.intercept_).copy()
    result.classes_ = numpy_of(estimator.classes_).copy()
    result.n_iter_ = numpy_of(estimator.n_iter_).copy()
    result.n_features_in_ = estimator.n_features_in_
    if hasattr(estimator, "feature_names_in_"):
        result.feature_names_in_ = estimator.feature_names_in_
    return result


def write_onnx(estimator: LogisticRegression, path: Path) -> None:
    """Write a fitted estimator as an ONNX model: input X [n, D], outputs label [n] and probabilities [n, K].

    Numbers are of the coefficients' dtype, computed in float64. Labels are int64, or strings.

    Raises:
        NotFittedError: before `fit`.
        UserError: the package onnx is not installed, or labels are neither whole numbers (of 64 bits) nor strings.
    """
    check_is_fitted(estimator)
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise UserError(
            "writing ONNX needs the package onnx, which is not installed: pip install 'flashlogit[onnx]'"
        ) from error
    coef, intercept = numpy_of(estimator.coef_), numpy_of(estimator.intercept_)
    classes = _onnx_labels(numpy_of(estimator.classes_))
    number = TensorProto.DOUBLE if coef.dtype == np.float64 else TensorProto.FLOAT
    coef, intercept = coef.astype(np.float64), intercept.astype(np.float64)
    K = len(classes)
    # In float64 as the estimator's own: in float32 products of raw columns leave 2e-6 of a probability.
    nodes = [
        helper.make_node("Cast", ["X"], ["double"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["double", "coef"], ["products"]),
        helper.make_node("Add", ["products", "intercept"], ["logits"]),
    ]
    if K == 2:
        # As a softmax of (0, z): onnxruntime's Sigmoid gives 0 for a logit of -40, and 1 - p would too.
        nodes += [
            helper.make_node("Sub", ["logits", "logits"], ["zeros"]),
            helper.make_node("Concat", ["zeros", "logits"], ["both"], axis=1),
            helper.make_node("Softmax", ["both"], ["p"], axis=1),
            helper.make_node("Greater", ["logits", "zero"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["place"], to=TensorProto.INT64),
            helper.make_node("Squeeze", ["place", "one"], ["number"]),
        ]
    else:
        nodes += [
            helper.make_node("Softmax", ["logits"], ["p"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["number"], axis=1, keepdims=0),
        ]
    nodes += [
        helper.make_node("Gather", ["classes", "number"], ["label"]),
        helper.make_node("Cast", ["p"], ["probabilities"], to=number),
    ]
    constants = {
        "coef": np.ascontiguousarray(coef.T),
        "intercept": intercept,
        "classes": classes,
        "zero": np.zeros(1, coef.dtype),
        "one": np.array([1]),
    }
    used = {name for node in nodes for name in node.input}
    labels = TensorProto.INT64 if classes.dtype.kind == "i" else TensorProto.STRING
    graph = helper.make_graph(
        nodes,
        "flashlogit",
        [helper.make_tensor_value_info("X", number, ["n", coef.shape[1]])],
        [
            helper.make_tensor_value_info("label", labels, ["n"]),
            helper.make_tensor_value_info("probabilities", number, ["n", K]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(
        graph, producer_name="flashlogit", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8
    )
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        helper.set_model_props(model, {"feature_names": "\n".join(map(str, names))})
    checker.check_model(model)
    content = model.SerializeToString()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _onnx_labels(classes: NDArray[Any]) -> NDArray[Any]:
    if classes.dtype.kind in "biuf" and _are_int64(classes):
        return classes.astype(np.int64)
    if all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    raise UserError(
        f"the classes {classes.tolist()[:3]} are neither whole numbers of 64 bits nor strings, the labels that ONNX"
        " knows; train on such labels"
    )


def _are_int64(classes: NDArray[Any]) -> bool:
    bounds = np.iinfo(np.int64)
    return all(bounds.min <= label <= bounds.max and label == int(label) for label in classes.tolist())
