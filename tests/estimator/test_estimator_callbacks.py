"""scikit-learn's callbacks during a fit."""

from unittest.mock import create_autospec

import numpy as np
import pytest
from estimator_data import IRIS, SCALED

from flashlogit import LogisticRegression, UserError

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
TASKS = ("on_fit_task_begin", "on_fit_task_end")


def recorder():
    """A callback that keeps what it is called with, and stops nothing."""
    return create_autospec(callback.FitCallback, instance=True, **{"on_fit_task_end.return_value": False})


def calls(callback):
    return {name: getattr(callback, name).call_count for name in ("setup", *TASKS, "teardown")}


@pytest.mark.parametrize(
    ("data", "max_iter", "solver"),
    [(SCALED, 1000, "lbfgs"), (SCALED, 0, "newton"), (IRIS, 1000, "newton"), (IRIS, 3, "lbfgs")],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_callbacks_have_a_task_for_each_evaluation(data, max_iter, solver):
    X, y = data
    told, weight = recorder(), 1.0 + (np.arange(len(y)) % 2)
    model = LogisticRegression(max_iter=max_iter, solver=solver).set_callbacks(told).fit(X, y, sample_weight=weight)
    tasks = 1 + max(1, int(model.n_iter_[0])) + 1
    assert calls(told) == {"setup": 1, **dict.fromkeys(TASKS, tasks), "teardown": 1}
    begun = told.on_fit_task_begin.call_args.kwargs
    assert begun["X"] is X
    assert begun["metadata"]["sample_weight"] is weight
    *steps, nothing, last = (call.kwargs["fitted_estimator"] for call in told.on_fit_task_end.call_args_list)
    assert nothing is None
    np.testing.assert_array_equal(last.coef_, model.coef_)
    for count in (1, 2, len(steps) // 2):
        if count < len(steps):
            stopped = LogisticRegression(max_iter=count, solver=solver).fit(X, y, sample_weight=weight)
            np.testing.assert_allclose(steps[count - 1].predict_proba(X), stopped.predict_proba(X), atol=1e-9)


def test_callbacks_end_with_an_error_and_go_with_copies():
    told = recorder()
    model = LogisticRegression(solver="newton").set_callbacks(told)
    with pytest.raises(UserError, match="2,100 columns"):
        model.fit(np.eye(10, 2100), np.arange(10) % 2)
    assert calls(told)["teardown"] == 1
    silent = LogisticRegression().fit(*IRIS)
    # A small table is fitted at once where nobody listens.
    np.testing.assert_allclose(model.set_params(solver="auto").fit(*IRIS).coef_, silent.coef_, rtol=1e-4)
    before = calls(told)
    model.set_callbacks().fit(*IRIS)
    assert calls(told) == before


def test_scikit_learns_own_callbacks():
    monitor = callback.ScoringMonitor(scoring="neg_log_loss")
    model = LogisticRegression().set_callbacks(monitor).fit(*IRIS)
    scores = [row["neg_log_loss"] for row in monitor.get_logs(select="most_recent").data]
    assert len(scores) >= int(model.n_iter_[0])
    assert max(scores) <= 0
