"""scikit-learn's callbacks (`sklearn.callback`, from 1.9 on) during a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Without callbacks there is no `set_callbacks`."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as it is."""
        return method


if TYPE_CHECKING:
    from .logistic_regression import LogisticRegression

__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]

Attributes = Callable[[], dict[str, Any]]
"""What turns a copy of the estimator into one that is fitted to here."""


class FitTasks:
    """The tasks of one fit: the whole, and in it one for each evaluation of the objective.

    As in scikit-learn's estimator there is one at least, one more begins at the last point and does nothing, and the
    wish of a callback to stop is not followed.
    """

    def __init__(
        self, estimator: LogisticRegression, X: Any, y: Any, sample_weight: Any, max_tasks: int
    ) -> None:
        self._whole: Any = None
        self._step: Any = None
        self._begun = 0
        self._latest: Attributes = dict
        self._data: dict[str, Any] = {"estimator": estimator, "X": X, "y": y}
        if sample_weight is not None:
            self._data["metadata"] = {"sample_weight": sample_weight}
        if hasattr(estimator, "_init_callback_context"):
            self._whole = estimator._init_callback_context(max_subtasks=max_tasks + 1)
            self._whole.call_on_fit_task_begin(**self._data)
        self._listening = hasattr(estimator, "_skl_callbacks")

    def point(self, evaluation: int, attributes: Attributes) -> None:
        """A fit begins (evaluation 0), or one of its evaluations was accepted; those in between were not."""
        if self._listening:
            while self._begun < evaluation:
                self._advance()
            self._latest = attributes
            self._advance()

    def end(self, evaluations: int, attributes: Attributes) -> None:
        """The fit ends, with these attributes."""
        if self._listening:
            self._latest = attributes
            while self._begun <= max(1, evaluations):
                self._advance()
            self._step.call_on_fit_task_end(estimator=self._data["estimator"])
        if self._whole is not None:
            self._whole.call_on_fit_task_end(**self._data, reconstruction_attributes=attributes)

    def _advance(self) -> None:
        if self._step is not None:
            self._step.call_on_fit_task_end(**self._data, reconstruction_attributes=self._latest)
        self._step = self._whole.subcontext(task_name="iteration")
        self._step.call_on_fit_task_begin(**self._data, reconstruction_attributes=self._latest)
        self._begun += 1
