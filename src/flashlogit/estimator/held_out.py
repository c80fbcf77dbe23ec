"""Scores of rows that a fold holds out, by scikit-learn's scorers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import make_scorer
from torch import Tensor

from .arrays import numpy_of
from .logistic_regression import LogisticRegression

Scorer = Callable[..., Any]


class HeldOutModel(LogisticRegression):
    """A fold's model as a scorer meets it: its answers are NumPy arrays, wherever the rows are.

    `rows` [n, D] are the fold's on their device and `stand_in` what scorers get for X: scikit-learn's hand it on to
    `predict` and look no further, so that for them it takes no memory, and nothing is copied from a GPU.
    """

    rows: Tensor
    stand_in: Any

    @classmethod
    def of(cls, rows: Tensor, classes: NDArray[Any], *, copied: bool) -> HeldOutModel:
        """Return it without coefficients; `copied`: the stand-in has the values of the rows."""
        model = cls()
        model.rows, model.classes_, model.n_features_in_ = rows, classes, rows.shape[1]
        model.stand_in = numpy_of(rows) if copied else np.broadcast_to(np.float64(0), tuple(rows.shape))
        return model

    def take(self, weight: Tensor, bias: Tensor, lacking: NDArray[np.bool_] | None) -> None:
        """Set the coefficients, and which classes have no probability."""
        self.coef_, self.intercept_, self._lacking = weight, bias, lacking

    def _logits(self, X: Any, method: str) -> Tensor:
        return super()._logits(self.rows if X is self.stand_in else X, method).cpu()


def knowing_labels(scorer: Scorer, classes: NDArray[Any]) -> Scorer:
    """Return a scorer that is told of all classes, as a fold's rows may lack some, if its metric can be told."""
    metric = getattr(scorer, "_score_func", None)
    names = inspect.signature(metric).parameters if metric is not None else {}
    if "labels" not in names:
        return scorer
    told: dict[str, Any] = {"labels": classes}
    if len(classes) == 2 and "pos_label" in names:
        told["pos_label"] = classes[-1]
    told |= scorer._kwargs  # type: ignore[attr-defined]
    how = {"greater_is_better": scorer._sign == 1, "response_method": scorer._response_method}  # type: ignore[attr-defined]
    made: Scorer = make_scorer(metric, **how, **told)
    return made
