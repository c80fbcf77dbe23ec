"""scikit-learn's own checks, with all of its optional ones."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, warnings
warnings.simplefilter("ignore")
import array_api_strict, pandas, polars
from sklearn.utils.estimator_checks import check_estimator
from flashlogit import LogisticRegression, LogisticRegressionCV
results = check_estimator(%s, on_fail=None, on_skip=None)
print(json.dumps([[r["check_name"], r["status"], str(r["exception"])] for r in results]))
"""
ABSENT = ("cuda", "cupy", "dpnp", "XPU", "MPS")
"""Hardware, and libraries of it, that the machine of the tests may lack; nothing else may be skipped."""


CROSS_VALIDATED = 'LogisticRegressionCV(cv=3, Cs=(0.1, 1.0), scoring="neg_log_loss", use_legacy_attributes=False)'
"""As scikit-learn checks its own, and without C of 1e4: of those the check's float32 rows get probabilities that round
to 1, and the check compares their logarithm, 0, with `predict_log_proba`, which is more accurate."""


@pytest.mark.parametrize("estimator", ["LogisticRegression()", CROSS_VALIDATED], ids=["one", "cross-validated"])
def test_check_estimator_is_clean(estimator):
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % estimator], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) > 75
    assert any(name == "check_array_api_mixed_inputs" and status == "passed" for name, status, _ in results)
    left = [result for result in results if result[1] != "passed"]
    assert [one for one in left if one[1] != "skipped" or not any(word in one[2] for word in ABSENT)] == []
