"""scikit-learn's callbacks during a fit."""

import numpy as np
import pytest
from estimator_data import IRIS, SCALED

from flashlogit import LogisticRegression, UserError

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


class Recorder:
    """A callback that keeps what it is called with."""

    def __init__(self):
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append(("setup", context, None))

    def on_fit_task_begin(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        self.calls.append(("begin", context, fitted_estimator))
        self.X, self.metadata = X, metadata

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.calls.append(("end", context, fitted_estimator))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context, None))

    def of(self, name):
        return [call for call in self.calls if call[0] == name]


@pytest.mark.parametrize(
    ("data", "max_iter", "solver"),
    [(SCALED, 1000, "lbfgs"), (SCALED, 0, "newton"), (IRIS, 1000, "newton"), (IRIS, 3, "lbfgs")],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_callbacks_have_a_task_for_each_evaluation(data, max_iter, solver):
    X, y = data
    recorder, weight = Recorder(), 1.0 + (np.arange(len(y)) % 2)
    model = LogisticRegression(max_iter=max_iter, solver=solver).set_callbacks(recorder)
    model.fit(X, y, sample_weight=weight)
    assert [len(recorder.of(name)) for name in ("setup", "teardown")] == [1, 1]
    tasks = 1 + max(1, int(model.n_iter_[0])) + 1
    assert [len(recorder.of(name)) for name in ("begin", "end")] == [tasks, tasks]
    assert recorder.X is X
    assert recorder.metadata["sample_weight"] is weight
    *steps, nothing, last = (fitted for _, _, fitted in recorder.of("end"))
    assert nothing is None
    np.testing.assert_array_equal(last.coef_, model.coef_)
    for count in (1, 2, len(steps) // 2):
        if count < len(steps):
            stopped = LogisticRegression(max_iter=count, solver=solver).fit(X, y, sample_weight=weight)
            np.testing.assert_allclose(steps[count - 1].predict_proba(X), stopped.predict_proba(X), atol=1e-9)


def test_callbacks_end_with_an_error_and_go_with_copies():
    recorder = Recorder()
    model = LogisticRegression(solver="newton").set_callbacks(recorder)
    with pytest.raises(UserError, match="2,100 columns"):
        model.fit(np.eye(10, 2100), np.arange(10) % 2)
    assert len(recorder.of("teardown")) == 1
    with pytest.raises(TypeError):
        model.set_callbacks("print")
    np.testing.assert_array_equal(
        model.set_params(solver="auto").fit(*IRIS).coef_, LogisticRegression().fit(*IRIS).coef_
    )
    begun = len(recorder.calls)
    model.set_callbacks().fit(*IRIS)
    assert len(recorder.calls) == begun


def test_scikit_learns_own_callbacks():
    monitor = callback.ScoringMonitor(scoring="neg_log_loss")
    model = LogisticRegression().set_callbacks(monitor).fit(*IRIS)
    scores = [row["neg_log_loss"] for row in monitor.get_logs(select="most_recent").data]
    assert len(scores) >= int(model.n_iter_[0])
    assert max(scores) <= 0
