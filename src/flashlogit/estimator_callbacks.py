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
    from .estimator import LogisticRegression

__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]

Attributes = Callable[[], dict[str, Any]]
"""What turns a copy of the estimator into one that is fitted to here."""


class FitTasks:
    """The tasks of one fit: the whole, and in it one from each accepted point to the next.

    As in scikit-learn's estimator there is one at least, and one more that begins at the last point and does nothing;
    and a callback that asks to stop is not heard.
    """

    def __init__(
        self, estimator: LogisticRegression, X: Any, y: Any, sample_weight: Any, max_tasks: int
    ) -> None:
        self._whole: Any = None
        self._step: Any = None
        self._count = 0
        self._data: dict[str, Any] = {"estimator": estimator, "X": X, "y": y}
        if sample_weight is not None:
            self._data["metadata"] = {"sample_weight": sample_weight}
        if hasattr(estimator, "_init_callback_context"):
            self._whole = estimator._init_callback_context(max_subtasks=max_tasks + 1)
            self._whole.call_on_fit_task_begin(**self._data)
        self._listening = hasattr(estimator, "_skl_callbacks")

    def point(self, attributes: Attributes) -> None:
        """The step to this point ends, and the next begins."""
        if not self._listening:
            return
        if self._step is not None:
            self._step.call_on_fit_task_end(**self._data, reconstruction_attributes=attributes)
        self._step = self._whole.subcontext(task_name="iteration")
        self._step.call_on_fit_task_begin(**self._data, reconstruction_attributes=attributes)
        self._count += 1

    def end(self, attributes: Attributes) -> None:
        """The fit ends, with these attributes."""
        if self._listening:
            while self._count < 2:
                self.point(attributes)
            self._step.call_on_fit_task_end(estimator=self._data["estimator"])
        if self._whole is not None:
            self._whole.call_on_fit_task_end(**self._data, reconstruction_attributes=attributes)
