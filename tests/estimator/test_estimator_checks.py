"""scikit-learn's own checks, with all of its optional ones."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import array_api_strict, pandas, polars
from sklearn.utils.estimator_checks import check_estimator
from flashlogit import LogisticRegression, LogisticRegressionCV
for estimator in sys.argv[1:]:
    results = check_estimator(eval(estimator), on_fail=None, on_skip=None)
    print("results:", json.dumps([[r["check_name"], r["status"], str(r["exception"])] for r in results]))
"""
ABSENT = ("cuda", "cupy", "dpnp", "XPU", "MPS")
"""Hardware, and libraries of it, that the machine of the tests may lack; nothing else may be skipped."""


CROSS_VALIDATED = 'LogisticRegressionCV(cv=3, Cs=(0.1, 1.0), scoring="neg_log_loss", use_legacy_attributes=False)'
"""As scikit-learn checks its own, and without C of 1e4: of those the check's float32 rows get probabilities that round
to 1, and the check compares their logarithm, 0, with `predict_log_proba`, which is more accurate."""


ESTIMATORS = {"one": "LogisticRegression()", "cross-validated": CROSS_VALIDATED}


@pytest.fixture(scope="module")
def checks() -> dict[str, list[list[str]]]:
    """The name, the status and the exception of each check, by estimator, all from one process."""
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    program = [sys.executable, "-c", PROGRAM, *ESTIMATORS.values()]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.partition(":")[2] for line in done.stdout.splitlines() if line.startswith("results:")]
    return dict(zip(ESTIMATORS, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_check_estimator_is_clean(estimator, checks):
    results = checks[estimator]
    assert len(results) > 75
    assert any(name == "check_array_api_mixed_inputs" and status == "passed" for name, status, _ in results)
    left = [result for result in results if result[1] != "passed"]
    assert [one for one in left if one[1] != "skipped" or not any(word in one[2] for word in ABSENT)] == []
