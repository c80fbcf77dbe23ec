"""Pickles of version 0.1.0, and those of today."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from flashlogit.estimator import LogisticRegression

FOLDER = Path(__file__).parents[1] / "runs/written_by_0_1_0/estimators"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
ROWS = np.array(EXPECTED["rows"])


@pytest.mark.parametrize("name", ["binary", "three_classes", "partial_fit"])
def test_a_pickle_of_0_1_0_predicts_the_same_and_goes_on(name):
    model, expected = pickle.loads((FOLDER / f"{name}.pkl").read_bytes()), EXPECTED[name]
    assert type(model) is LogisticRegression
    np.testing.assert_array_equal(model.coef_, expected["coef"])
    np.testing.assert_array_equal(model.intercept_, expected["intercept"])
    np.testing.assert_allclose(model.predict_proba(ROWS), expected["probabilities"], rtol=1e-14)
    if name == "binary":
        np.testing.assert_array_equal(model.inference_.p_value, expected["p_values"])
    twin = pickle.loads((FOLDER / f"{name}.pkl").read_bytes())
    y = model.predict(ROWS)
    first, second = (each.set_params(random_state=0).partial_fit(ROWS, y).coef_ for each in (model, twin))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, expected["coef"])


def test_a_pickle_of_today_names_the_room():
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    content = pickle.dumps(model, protocol=4)
    assert b"flashlogit.estimator\x94" in content
    np.testing.assert_array_equal(pickle.loads(content).coef_, model.coef_)
