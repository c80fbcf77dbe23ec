"""flashlogit.solvers.unpenalised: data whose answer is known by construction, and directions that prove it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from flashlogit import fit
from flashlogit.solvers.unpenalised import separation
from flashlogit.solvers.unpenalised.finding import Separation, fewest_columns, separation_message
from flashlogit.solvers.unpenalised.separation import Undecided, find_separation

NAMES = [f"x{j}" for j in range(100)]


def find(X, y, weight=None, *, intercept=True):
    tensors = [None if value is None else torch.as_tensor(np.asarray(value, dtype=float)) for value in (X, y, weight)]
    return find_separation(*tensors, intercept=intercept)


def kind_of(X, y, weight=None, *, intercept=True) -> str | None:
    """The kind, None where the classes overlap; a direction that is found must prove it."""
    found = find(X, y, weight, intercept=intercept)
    if found is None:
        return None
    assert isinstance(found, Separation), found
    X, y, w = np.asarray(X, dtype=float), np.asarray(y, dtype=float), found.weight.numpy()
    assert intercept or found.bias == 0.0
    z = X @ w + found.bias
    rounding = 1e-8 * (1.0 + np.abs(X * w).max())
    margin = np.where((y == 0) | (y == 1), (2 * y - 1) * z, -np.abs(z))[... if weight is None else weight > 0]
    assert margin.max() > rounding
    assert margin.min() > (0 if found.kind == "complete" else -rounding)
    return found.kind


def draw(N, D):
    """X [N, D], the logits of a model and labels drawn from it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D))
    z = X @ rng.normal(size=D) / D**0.5 + 0.3
    return X, z, (rng.random(N) < 1 / (1 + np.exp(-z))).astype(float)


@pytest.mark.parametrize(("N", "D"), [(300, 5), (5000, 20), (10, 12)])
def test_overlapping_and_separated_classes(N, D) -> None:
    """Fewer rows than columns are separated whatever their labels."""
    X, z, y = draw(N, D)
    assert kind_of(X, z > 0) == "complete"
    for intercept in (False, True):
        assert kind_of(X, y, intercept=intercept) == (None if N > D else "complete")
    if N > 1000:  # one row on the wrong side is enough
        wrong = z > 0
        wrong[np.abs(z).argsort()[N // 2]] ^= True
        assert kind_of(X, wrong) is None


def test_a_single_row_among_many() -> None:
    X, _, y = draw(50_000, 3)
    X[:, 2] = 0.0
    X[y.argmax(), 2] = 1.0
    assert kind_of(X, y) == "quasi-complete"
    assert 'by column "x2"' in separation_message(find(X, y), NAMES)
    X[y.argmin(), 2] = 1.0
    assert kind_of(X, y) is None


@pytest.mark.parametrize(
    ("x", "y", "kind"),
    [
        ([-1, 0, 1e-5, 1], [0, 0, 1, 1], "complete"),
        ([-1, 0.1, 0, 1], [0, 0, 1, 1], None),
        ([1e6, 1e6 + 1, 1e6 + 1, 1e6 + 2], [0, 0, 1, 1], "quasi-complete"),
    ],
)
@pytest.mark.parametrize("factor", [1.0, -1e-4, 1e6])
def test_one_column(x, y, kind, factor) -> None:
    assert kind_of(np.array(x)[:, None] * factor, y) == kind


def test_one_class() -> None:
    X, _, _ = draw(30, 3)
    assert kind_of(X, np.ones(30)) == "complete"
    assert kind_of(X, np.zeros(30), intercept=False) is None
    assert kind_of(np.abs(X), np.zeros(30), intercept=False) == "complete"
    assert "completely separated (every label is 0), so" in separation_message(find(X, np.zeros(30)), NAMES)


def test_collinear_and_constant_columns_separate_nothing() -> None:
    X, z, y = draw(400, 5)
    X = np.column_stack([X, X[:, 0] + X[:, 1] / 3, X[:, 2], np.full(400, 0.1), np.zeros(400)])
    assert kind_of(X, y) is None
    assert kind_of(X.astype(np.float32), y) is None
    assert kind_of(X, z > 0) == "complete"
    assert kind_of(X[:, :7], y, intercept=False) is None


def test_rows_of_weight_0_are_left_out() -> None:
    X, z, _ = draw(300, 3)
    wrong = np.arange(300) < 40
    assert kind_of(X, (z > 0) ^ wrong, np.where(wrong, 0.0, 0.5)) == "complete"
    assert kind_of(X, (z > 0) ^ wrong, np.ones(300)) is None
    assert find(X, z > 0, np.zeros(300)) is None


def test_soft_labels_stay_on_the_plane() -> None:
    X = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    assert kind_of(X, [0, 1, 1, 0]) == "complete"
    assert kind_of(X, [0, 1, 0.5, 0.2]) == "quasi-complete"
    assert kind_of(X, [0, 0.5, 0.5, 0.2]) is None
    X, _, y = draw(3000, 4)
    labels = 0.1 + 0.8 * y
    assert kind_of(X, labels) is None
    X[:, 2] = (y == 1) & (np.arange(3000) % 5 == 0)
    for label, kind in ((0.9, None), (1.0, "quasi-complete")):
        labels[X[:, 2] == 1] = label
        assert kind_of(X, labels) == kind
    X[2999, 2], labels[2999] = 1.0, 0.9  # one among many is enough
    assert kind_of(X, labels) is None


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_the_same_as_all_constraints_at_once(seed, intercept) -> None:
    """Konis's programme over every row, for small whole numbers, which have ties and touching classes."""
    rng = np.random.default_rng(seed)
    N, D = int(rng.integers(4, 40)), int(rng.integers(1, 5))
    X = rng.integers(-2, 3, size=(N, D)).astype(float)
    y = (X @ rng.integers(-2, 3, size=D) + rng.integers(-1, 2, size=N) * (seed % 3 > 0) > 0).astype(float)
    A = (2 * y - 1)[:, None] * (np.column_stack([X, np.ones(N)]) if intercept else X)
    box = [(-1, 1)] * A.shape[1]
    total = -linprog(-A.sum(axis=0), A_ub=-A, b_ub=np.zeros(N), bounds=box).fun
    wider, widest = np.column_stack([-A, np.ones(N)]), [0] * A.shape[1] + [-1]
    width = -linprog(widest, A_ub=wider, b_ub=np.zeros(N), bounds=[*box, (0, 1)]).fun
    expected = "complete" if width > 1e-6 else "quasi-complete" if total > 1e-6 else None
    assert kind_of(X, y, intercept=intercept) == expected


def test_narrow_columns_in_any_layout() -> None:
    X, z, y = draw(400, 3)
    stored, far = torch.from_numpy(X).to(torch.bfloat16).t().contiguous().t(), torch.from_numpy(np.abs(z) > 0.2)
    assert find_separation(stored, torch.from_numpy(y).half(), None, intercept=True) is None
    found = find_separation(stored, (far & torch.from_numpy(z > 0)).to(torch.uint8), far, intercept=True)
    assert (found.kind, found.weight.dtype) == ("complete", torch.float64)


@pytest.mark.parametrize(
    ("tuning", "value", "reason"),
    [
        ({"max_values": 24_000}, 0.0, None),
        ({"max_values": 23_999}, 0.0, "X has 24,000 values, and at most 23,999 are searched for separation"),
        ({"max_columns": 7}, 0.0, "X has 8 columns, and at most 7 are searched for separation"),
        ({"seconds": 0.0}, 0.0, "the search for separation ran out of time"),
        ({}, np.nan, "X holds values that are not finite, or whose squares are not"),
        ({}, 1e200, "X holds values that are not finite, or whose squares are not"),
    ],
)
def test_what_is_not_decided(tuning, value, reason, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separation, "TUNING", dataclasses.replace(separation.TUNING, **tuning))
    X, _, y = draw(3000, 8)
    X[4, 1] += value
    assert find(X, y) == (Undecided(reason) if reason else None)


def test_message() -> None:
    X, z, _ = draw(300, 5)
    message = separation_message(find(X, z > 0), NAMES)
    assert message.startswith("the classes are completely separated by a combination of 5 columns, above all ")
    assert message.count('"') == 6
    assert message.endswith(
        "(a plane has all 300 rows on their labels' sides), so that no finite optimum exists: add a penalty (l2),"
        " or leave out columns that give the label away"
    )
    two = Separation("quasi-complete", "evidence", torch.ones(2), 0.0, torch.tensor([0.5, -1.0]))
    assert 'by a combination of columns "x1" and "x0" (evidence), so that' in separation_message(two, NAMES)
    suspected = separation_message(Separation("suspected", "evidence"), NAMES)
    assert suspected.startswith("the classes seem to be separated (evidence), so that there may be no finite optimum")


ALL = [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("order", "labels", "named"),
    [
        (ALL, {0: 1.0}, ["free"]),
        (ALL, {3: 1.0, 1: 0.0}, ["basic", "gold"]),
        # The first column left out, as for the reference category, there is nothing to move.
        ([1, 2, 3], {0: 1.0}, ["basic", "gold", "plus"]),
        ([1, 2, 3], {3: 0.0}, ["gold"]),
        # Of yes and no it is the one that separates.
        ([0, 1], {1: 1.0}, ["basic"]),
        ([1, 0], {1: 1.0}, ["basic"]),
        (ALL, {0: 0.0, 1: 0.0, 2: 1.0, 3: 0.0}, "complete"),
    ],
)
def test_the_categories_that_separate_are_named(order, labels, named) -> None:
    """Each category of `labels` has one label; those of the others are drawn by age."""
    rng = np.random.default_rng(5)
    category = np.minimum(rng.geometric(0.45, 600) - 1, max(order))
    age = rng.normal(45, 12, 600)
    y = (rng.random(600) < 1 / (1 + np.exp(-(age - 45) / 10))).astype(float)
    for each, label in labels.items():
        y[category == each] = label
    X = np.column_stack([np.eye(4)[category][:, order], age, np.eye(3)[np.arange(600) % 3], np.full(600, 2013.0)])
    names = [["free", "basic", "plus", "gold"][j] for j in order] + ["age", "a", "b", "c", "year"]
    result = fit(torch.from_numpy(X), torch.from_numpy(y), names=names)
    found = [name for note in result.notes if "separated" in note for name in note.split('"') if name in names]
    assert (found[0] == "plus") if named == "complete" else (sorted(found) == named)
    assert result.separation.kind == ("complete" if named == "complete" else "quasi-complete")
    margin = (2 * y - 1) * (X @ result.separation.weight.numpy() + result.separation.bias)
    assert margin.min() > -1e-7
    assert margin.max() > 1e-3


def test_the_fewest_columns_of_a_direction():
    """Three groups, each with weights of one category only, moved along what changes no logit."""
    rng = np.random.default_rng(0)
    one_hot = np.column_stack([np.eye(n)[rng.integers(0, n, 300)] for n in (3, 4, 5)])
    expected, null_space = np.zeros(12), np.repeat(np.eye(3), (3, 4, 5), axis=0)
    expected[[1, 5, 9]] = 1.0, -2.0, 0.5
    moved, units = rng.normal(size=3), one_hot.std(axis=0)
    mixed = np.linalg.qr(null_space @ rng.normal(size=(3, 3)))[0]
    arguments = map(torch.from_numpy, (mixed, units, one_hot.mean(axis=0)))
    weight = torch.from_numpy((expected + null_space @ moved) * units)
    found = fewest_columns(weight, -moved.sum(), *arguments).numpy() / units
    np.testing.assert_allclose(found, expected, atol=1e-7)
