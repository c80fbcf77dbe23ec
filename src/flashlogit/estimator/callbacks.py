"""scikit-learn's callbacks (`sklearn.callback`, from 1.9 on) during a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Without callbacks there is no `set_callbacks`."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]

Attributes = Callable[[], dict[str, Any]]
"""What turns a copy of the estimator into one that is fitted to here."""


class FitTasks:
    """The tasks of one fit: the whole, and in it one for each evaluation of the objective.

    As in scikit-learn's estimator there is one at least, one more begins at the last point and does nothing, and the
    wish of a callback to stop is not followed.
    """

    def __init__(self, estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any, max_tasks: int) -> None:
        self._whole: Any = None
        self._step: Any = None
        self._begun = 0
        self._latest: Attributes = dict
        self._data: dict[str, Any] = {"estimator": estimator, "X": X, "y": y}
        if sample_weight is not None:
            self._data["metadata"] = {"sample_weight": sample_weight}
        if hasattr(estimator, "_skl_callbacks"):
            self._whole = estimator._init_callback_context(max_subtasks=max_tasks + 1)
            self._whole.call_on_fit_task_begin(**self._data)

    def point(self, evaluation: int, attributes: Attributes) -> None:
        """Begin the tasks up to this accepted evaluation (0 is the start); those in between were not accepted."""
        if self._whole is not None:
            while self._begun < evaluation:
                self._advance()
            self._latest = attributes
            self._advance()

    def end(self, evaluations: int) -> None:
        """End all tasks of a fit, whose attributes the estimator has by now."""
        if self._whole is not None:
            self._latest = dict
            while self._begun <= max(1, evaluations):
                self._advance()
            self._step.call_on_fit_task_end(estimator=self._data["estimator"])
            self._whole.call_on_fit_task_end(**self._data, reconstruction_attributes=dict)

    def _advance(self) -> None:
        if self._step is not None:
            self._step.call_on_fit_task_end(**self._data, reconstruction_attributes=self._latest)
        self._step = self._whole.subcontext(task_name="iteration")
        self._step.call_on_fit_task_begin(**self._data, reconstruction_attributes=self._latest)
        self._begun += 1
