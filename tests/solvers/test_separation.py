"""flashlogit.solvers.unpenalised.separation: data whose answer is known by construction, and directions that prove
it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from flashlogit import fit
from flashlogit.solvers.unpenalised import separation
from flashlogit.solvers.unpenalised.finding import Separation, fewest_columns, separation_message
from flashlogit.solvers.unpenalised.separation import Undecided, find_separation

NAMES = [f"x{j}" for j in range(100)]


def find(X, y, weight=None, *, intercept=True):
    as_tensor = [
        None if value is None else torch.as_tensor(np.asarray(value, dtype=np.float64)) for value in (X, y, weight)
    ]
    return find_separation(*as_tensor, intercept=intercept)


def kind_of(X, y, weight=None, *, intercept=True) -> str | None:
    """The kind, None where the classes overlap; a direction that is found must prove it."""
    found = find(X, y, weight, intercept=intercept)
    if found is None:
        return None
    assert isinstance(found, Separation), found
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if weight is not None:
        X, y = X[np.asarray(weight) > 0], y[np.asarray(weight) > 0]
    if not intercept:
        assert found.bias == 0.0
    w = found.weight.numpy()
    z = X @ w + found.bias
    rounding = 1e-8 * (1.0 + np.abs(X @ np.diag(w)).max())
    soft = (y != 0) & (y != 1)
    margin = (2 * y - 1)[~soft] * z[~soft]
    assert (np.abs(z[soft]) <= rounding).all()
    assert margin.max() > rounding
    if found.kind == "complete":
        assert margin.min() > 0
        assert not soft.any()
    else:
        assert margin.min() >= -rounding
    return found.kind


def draw(N, D, seed, *, strength=1.0):
    """X [N, D], the logits of a model and labels drawn from it."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, D))
    z = X @ rng.normal(size=D) * (strength / D**0.5) + 0.3
    return X, z, (rng.random(N) < 1 / (1 + np.exp(-z))).astype(float)


@pytest.mark.parametrize(("N", "D"), [(60, 1), (300, 5), (5000, 20), (10, 12)])
def test_overlapping_and_separated_classes(N, D) -> None:
    """Fewer rows than columns are separated whatever their labels."""
    X, z, y = draw(N, D, 0)
    assert kind_of(X, z > 0) == "complete"
    for intercept in (False, True):
        assert kind_of(X, y, intercept=intercept) == (None if N > D else "complete")
    if N > 1000:  # one row on the wrong side is enough
        wrong = z > 0
        wrong[np.abs(z).argsort()[N // 2]] ^= True
        assert kind_of(X, wrong) is None


@pytest.mark.parametrize("D", [1, 3])
@pytest.mark.parametrize("swapped", [False, True])
def test_classes_that_just_touch(swapped, D) -> None:
    """Among 3,000 rows one of each class has the same place, or both are on the wrong side by little."""
    X, z, _ = draw(3000, D, 0, strength=10.0)
    y = (z > 0.3).astype(float)
    negative, positive = z[y == 0].argmax(), z[y == 1].argmin()
    first, last = np.flatnonzero(y == 0)[negative], np.flatnonzero(y == 1)[positive]
    assert kind_of(X, y) == "complete"
    if swapped and D == 1:
        y[[first, last]] = y[[last, first]]
        assert kind_of(X, y) is None
    else:
        X[first] = X[last]
        assert kind_of(X, y) in ("quasi-complete", None)
        assert D > 1 or kind_of(X, y) == "quasi-complete"


def test_a_dummy_column_of_one_class_only() -> None:
    X, _, y = draw(2000, 6, 0)
    X[:, 3] = (y == 1) & (np.arange(2000) % 10 == 0)
    assert kind_of(X, y) == "quasi-complete"
    found = find(X, y)
    assert int(found.standardized.abs().argmax()) == 3
    assert 'by column "x3"' in separation_message(found, NAMES)
    X[0, 3], y[0] = 1.0, 0.0
    assert kind_of(X, y) is None


def test_a_single_row_among_many() -> None:
    X, _, y = draw(50_000, 3, 0)
    X[:, 2] = 0.0
    X[y.argmax(), 2] = 1.0
    assert kind_of(X, y) == "quasi-complete"


@pytest.mark.parametrize(
    ("x", "y", "kind"),
    [
        ([-1, 0, 0, 1], [0, 0, 1, 1], "quasi-complete"),
        ([-1, 0, 0.1, 1], [0, 0, 1, 1], "complete"),
        ([-1, 0, 1e-5, 1], [0, 0, 1, 1], "complete"),
        ([-1, 0, 1e-5, 1], [0, 1, 0, 1], None),
        ([-1, 0.1, 0, 1], [0, 0, 1, 1], None),
        ([0, 0, 1, 1], [0, 1, 0, 1], None),
        ([0, 0, 1, 1], [0, 1, 1, 1], "quasi-complete"),
        ([5, 5], [0, 1], None),
        ([1e6, 1e6 + 1, 1e6 + 2], [0, 0, 1], "complete"),
    ],
)
@pytest.mark.parametrize("factor", [1.0, -1e-4, 1e6])
def test_one_column(x, y, kind, factor) -> None:
    assert kind_of(np.array(x)[:, None] * factor, y) == kind


def test_two_by_two_tables() -> None:
    """Without an empty cell there is an optimum, with one there is none (Albert & Anderson's own example)."""
    for counts in itertools.product([0, 3], repeat=4):
        rows = [(a, b) for (a, b), n in zip(itertools.product([0, 1], repeat=2), counts, strict=True) for _ in range(n)]
        if not rows:
            continue
        x, y = np.array(rows, dtype=float).T
        one_class = len(set(y)) == 1
        one_group = len(set(x)) == 1
        if one_class or (len(set(rows)) == 2 and not one_group):
            expected = "complete"
        elif len(set(rows)) == 3:
            expected = "quasi-complete"
        else:
            expected = None
        assert kind_of(x[:, None], y) == expected, counts


def test_a_free_intercept_can_be_what_separates() -> None:
    x, y = np.array([[1.0], [2.0], [3.0], [4.0]]), [0, 0, 1, 1]
    assert kind_of(x, y) == "complete"
    assert kind_of(x, y, intercept=False) is None
    assert kind_of(x - 2.5, y, intercept=False) == "complete"


def test_one_class() -> None:
    X, _, _ = draw(30, 3, 0)
    assert kind_of(X, np.ones(30)) == "complete"
    assert kind_of(X, np.zeros(30)) == "complete"
    assert kind_of(X, np.zeros(30), intercept=False) is None
    assert kind_of(np.abs(X), np.zeros(30), intercept=False) == "complete"
    message = separation_message(find(X, np.zeros(30)), NAMES)
    assert message.startswith("the classes are completely separated (every label is 0), so that")


@pytest.mark.parametrize("seed", range(2))
def test_collinear_and_constant_columns_separate_nothing(seed) -> None:
    X, z, y = draw(400, 5, seed)
    X = np.column_stack([X, X[:, 0] + X[:, 1] / 3, X[:, 2], np.full(400, 0.1), np.zeros(400)])
    assert kind_of(X, y) is None
    assert kind_of(X.astype(np.float32), y) is None
    assert kind_of(X, z > 0) == "complete"
    assert kind_of(X[:, :7], y, intercept=False) is None


@pytest.mark.parametrize("seed", range(2))
def test_scales_and_means(seed) -> None:
    rng = np.random.default_rng(seed)
    X, z, y = draw(500, 11, seed)
    quasi = X.copy()
    quasi[:, 4] = (y == 0) & (np.arange(500) % 7 == 0)
    for columns, labels, kind in ((X, y, None), (X, z > 0.3, "complete"), (quasi, y, "quasi-complete")):
        scaled = (columns + 100 * rng.normal(size=11)) * 10.0 ** rng.permutation(np.arange(-4, 7))
        assert kind_of(scaled, labels) == kind


def test_rows_of_weight_0_are_left_out() -> None:
    X, z, _ = draw(300, 3, 0)
    y, wrong = z > 0, np.arange(300) < 40
    weight = np.where(wrong, 0.0, 0.5)
    assert kind_of(X, y ^ wrong, weight) == "complete"
    assert kind_of(X, y ^ wrong, np.ones(300)) is None
    assert find(X, y, np.zeros(300)) is None


def test_soft_labels_stay_on_the_plane() -> None:
    X = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    assert kind_of(X, [0, 1, 1, 0]) == "complete"
    assert kind_of(X, [0, 1, 0.5, 0.2]) == "quasi-complete"
    assert kind_of(X, [0, 0.5, 0.5, 0.2]) is None
    assert kind_of(X[:, :1], [0, 1, 0.5, 0.2]) == "quasi-complete"
    X, _, y = draw(3000, 4, 0)
    assert kind_of(X, 0.1 + 0.8 * y) is None
    X[:, 2] = (y == 1) & (np.arange(3000) % 5 == 0)
    assert kind_of(X, np.where(X[:, 2] == 1, 1.0, 0.1 + 0.8 * y)) == "quasi-complete"
    assert kind_of(X, np.where(X[:, 2] == 1, 0.9, 0.1 + 0.8 * y)) is None


@pytest.mark.parametrize("categories", [3, 40])
def test_dummies_of_a_category(categories) -> None:
    rng = np.random.default_rng(0)
    category = rng.integers(0, categories, size=4000)
    X, y = np.eye(categories)[category], (rng.random(4000) < 0.5).astype(float)
    assert kind_of(X, y) is None
    assert kind_of(X, y, intercept=False) is None
    y[category == 1] = 0.0
    assert kind_of(X, y) == "quasi-complete"
    assert kind_of(X, y, intercept=False) == "quasi-complete"


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_all_constraints_at_once(seed) -> None:
    """Konis's programme over every row, for small whole numbers, which have ties and touching classes."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    N, D = int(rng.integers(4, 40)), int(rng.integers(1, 5))
    X = rng.integers(-2, 3, size=(N, D)).astype(float)
    y = (X @ rng.integers(-2, 3, size=D) + rng.integers(-1, 2, size=N) * (seed % 3 > 0) > 0).astype(float)
    for intercept in (False, True):
        A = (2 * y - 1)[:, None] * (np.column_stack([X, np.ones(N)]) if intercept else X)
        zeros, box = np.zeros(N), [(-1, 1)] * A.shape[1]
        total = -linprog(-A.sum(axis=0), A_ub=-A, b_ub=zeros, bounds=box).fun
        widest = -linprog(
            [0.0] * A.shape[1] + [-1.0],
            A_ub=np.column_stack([-A, np.ones(N)]),
            b_ub=zeros,
            bounds=[*box, (0, 1)],
        ).fun
        expected = "complete" if widest > 1e-6 else "quasi-complete" if total > 1e-6 else None
        assert kind_of(X, y, intercept=intercept) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_and_layout(dtype) -> None:
    X, z, y = draw(400, 3, 0)
    stored = torch.from_numpy(X).to(dtype).t().contiguous().t()
    assert find_separation(stored, torch.from_numpy(y).to(dtype), None, intercept=True) is None
    labels = torch.from_numpy(np.abs(z) > 0.2) & torch.from_numpy(z > 0)
    far = torch.from_numpy(np.abs(z) > 0.2)
    found = find_separation(stored, labels.to(torch.uint8), far, intercept=True)
    assert isinstance(found, Separation)
    assert found.kind == "complete"
    assert found.weight.dtype == torch.float64


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(**tuning) -> None:
        monkeypatch.setattr(separation, "TUNING", dataclasses.replace(separation.TUNING, **tuning))

    X, _, y = draw(3000, 8, 0)
    limited(max_values=24_000)
    assert find(X, y) is None
    limited(max_values=23_999)
    assert "24,000 values, and at most 23,999" in find(X, y).reason
    limited(max_values=24_000, seconds=0.0)
    assert find(X, y) == Undecided("the search for separation ran out of time")
    assert "1,001 columns, and at most 1,000" in find(np.zeros((2, 1001)), [0, 1]).reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_values_that_cannot_be_standardised(value) -> None:
    X, _, y = draw(30, 2, 0)
    X[4, 1] = value
    assert find(X, y) == Undecided("X holds values that are not finite, or whose squares are not")


def test_message() -> None:
    X, z, _ = draw(300, 5, 0)
    message = separation_message(find(X, z > 0), NAMES)
    assert message.startswith("the classes are completely separated by a combination of 5 columns, above all ")
    assert message.count('"') == 6
    assert message.endswith(
        "(a plane has all 300 rows on their labels' sides), so that no finite optimum exists: add a penalty (l2),"
        " or leave out columns that give the label away"
    )
    two = Separation("quasi-complete", "evidence", torch.ones(2), 0.0, torch.tensor([0.5, -1.0]))
    assert separation_message(two, NAMES).startswith(
        'the classes are quasi-completely separated by a combination of columns "x1" and "x0" (evidence), so that'
    )
    suspected = separation_message(Separation("suspected", "a coefficient passed 1,000"), NAMES)
    assert suspected.startswith(
        "the classes seem to be separated (a coefficient passed 1,000), so that there may be no finite optimum: "
    )


CATEGORIES = ["free", "basic", "plus", "gold"]


def categories(seed, levels=4, N=600):
    """A category, its one-hot columns, a number, labels drawn from the number."""
    rng = np.random.default_rng(seed)
    category = np.minimum(rng.geometric(0.45, N) - 1, levels - 1)
    age = rng.normal(45, 12, N)
    y = (rng.random(N) < 1 / (1 + np.exp(-(age - 45) / 10))).astype(float)
    return category, np.eye(levels)[category], age, y


def note_on_separation(X, y, names, **options):
    result = fit(torch.from_numpy(np.ascontiguousarray(X)), torch.from_numpy(y), names=names, **options)
    assert result.separation is not None
    return result.separation, next(note for note in result.notes if "separated" in note)


def named(note):
    return [name for name in CATEGORIES if f'"{name}"' in note]


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("culprit", range(4))
def test_the_category_that_separates_is_named(culprit, label):
    category, one_hot, age, y = categories(culprit)
    y[category == culprit] = label
    others = np.eye(3)[np.arange(len(y)) % 3]
    X = np.column_stack([one_hot, age, others, np.full(len(y), 2013.0)])
    found, note = note_on_separation(X, y, [*CATEGORIES, "age", "a", "b", "c", "year"])
    assert f'are quasi-completely separated by column "{CATEGORIES[culprit]}" (' in note
    assert found.kind == "quasi-complete"
    margin = (2 * y - 1) * (X @ found.weight.numpy() + found.bias)
    assert margin.min() > -1e-7
    assert margin.max() > 1e-3
    # The first column left out, as for the reference category, there is nothing to move.
    _, note = note_on_separation(X[:, 1:5], y, [*CATEGORIES[1:], "age"])
    assert named(note) == (CATEGORIES[1:] if culprit == 0 else [CATEGORIES[culprit]])


def test_both_categories_that_separate_are_named():
    category, one_hot, age, y = categories(5)
    y[category == 3], y[category == 1] = 1.0, 0.0
    _, note = note_on_separation(np.column_stack([one_hot, age]), y, [*CATEGORIES, "age"])
    assert named(note) == ["basic", "gold"]
    assert '"age"' not in note


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_yes_and_no_the_one_that_separates_is_named(order):
    category, one_hot, age, y = categories(6, levels=2)
    y[category == 1] = 1.0
    columns = np.column_stack([one_hot[:, order], age])
    _, note = note_on_separation(columns, y, [*(CATEGORIES[j] for j in order), "age"])
    assert named(note) == ["basic"]


def test_the_category_of_a_complete_separation_comes_first():
    category, one_hot, age, _ = categories(7)
    y = (category == 2).astype(float)
    found, note = note_on_separation(np.column_stack([one_hot, age]), y, [*CATEGORIES, "age"])
    assert found.kind == "complete"
    assert note.index('"plus"') == note.index('"')


@pytest.mark.parametrize("seed", range(3))
def test_the_fewest_columns_of_a_direction(seed):
    """Three groups, each with weights of one category only, moved along what changes no logit."""
    rng = np.random.default_rng(seed)
    one_hot = np.column_stack([np.eye(n)[rng.integers(0, n, 300)] for n in (3, 4, 5)])
    weight, bias = np.zeros(12), 0.0
    weight[[1, 5, 9]] = 1.0, -2.0, 0.5
    null_space = np.zeros((12, 3))
    for k, (begin, end) in enumerate([(0, 3), (3, 7), (7, 12)]):
        null_space[begin:end, k] = 1.0
        moved = rng.normal()
        weight[begin:end] += moved
        bias -= moved
    mixed = np.linalg.qr(null_space @ rng.normal(size=(3, 3)))[0]
    units = one_hot.std(axis=0)
    arguments = (torch.from_numpy(a) for a in (mixed, units, one_hot.mean(axis=0)))
    found = fewest_columns(torch.from_numpy(weight * units), bias, *arguments).numpy() / units
    expected = np.zeros(12)
    expected[[1, 5, 9]] = 1.0, -2.0, 0.5
    np.testing.assert_allclose(found, expected, atol=1e-7)
