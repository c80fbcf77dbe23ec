"""What a report says of a grid of penalties: its sentences, charts, pictures and tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from reports import HOSTILE, report
from test_page import Page

from flashlogit import fit_many
from flashlogit.report import GRID_PICTURES, charts, png
from flashlogit.report.coefficients import LARGEST
from flashlogit.report.grid import GridReport
from flashlogit.report.page import render
from flashlogit.report.svg import draw_svg

PENALTIES = np.logspace(-4, 1, 6)
LOSSES = np.array([0.5, 0.4, 0.3, 0.32, 0.45, 0.6])


def grid(losses=LOSSES, penalties=PENALTIES, *, columns=3, listed=True, **more):
    """A grid with these means, each with a standard error of 0.04, and as many coefficients as columns."""
    rng, L = np.random.default_rng(0), len(penalties)
    path = rng.normal(size=columns) / (1 + penalties[:, None])
    rows = [
        {"penalty": p, "fold": f, "held_out_loss": loss, "accuracy": 0.9, "roc_auc": float("nan"), "iterations": 7}
        | {"relative_gap": 1e-7, "ending": "tolerance"}
        for p, loss in zip(penalties.tolist(), losses.tolist(), strict=True)
        for f in (1, 2)
    ]
    fields = {
        "penalty": penalties, "held_out_loss": losses, "standard_error": np.full(L, 0.04),
        "accuracy": np.full(L, 0.9), "roc_auc": np.full(L, np.nan), "chosen": 2, "l1": 0.0, "l2": 0.01,
        "select": "best", "l1_ratio": 0.0, "folds": 2, "along": None, "targets": 1, "models": 2 * L, "passes": 31.4,
        "seconds": 0.2, "compile_seconds": 0.0, "path": path,
        "names": tuple((f"column {j}",) for j in range(columns)), "coefficients": columns,
        "listed": tuple(rows) if listed else (),
    }  # fmt: skip
    return GridReport(**fields | more)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_has_the_fits_means_and_largest_coefficients(classes):
    rng = np.random.default_rng(0)
    X, D = rng.normal(size=(300, 30)), 30
    logits = X[:, :classes] + rng.gumbel(size=(300, classes))
    fits = fit_many(X, logits.argmax(axis=1), l2=[0.01, 0.1, 1], folds=3, backend="torch")
    of, deviation = fits["y"], np.linspace(1, 2, D)
    names, labels = tuple(f"c{j}" for j in range(D)), ("a", "b", "c")[:classes]
    kinds = {"select": "best", "along": None, "deviation": deviation, "columns": names, "classes": labels}
    made = GridReport.of(fits, "y", **kinds)
    np.testing.assert_allclose(made.held_out_loss, of.held_loss.mean(axis=1))
    assert (made.least, made.chosen, made.l2, made.l1) == (of.best, of.best, fits.penalties[of.best], 0)
    mean = (of.weight.mean(dim=1).numpy() * deviation).reshape(3, -1, D)
    assert made.path.shape == (3, LARGEST)
    assert made.coefficients == D * (3 if classes > 2 else 1)
    for j, name in enumerate(made.names):
        k = labels.index(name[1]) if classes > 2 else 0
        np.testing.assert_allclose(made.path[:, j], mean[:, k, names.index(name[0])])
    assert np.abs(made.path[made.chosen]).min() >= np.sort(np.abs(mean[made.chosen]).ravel())[-LARGEST]
    assert [row["fold"] for row in made.listed] == [1, 2, 3] * 3
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["penalties"][1]["penalty"] == 0.1


def test_the_chart_of_the_loss_marks_the_chosen_penalty_and_spans_the_error_bars():
    (panel,) = charts.penalty_chart(grid()).panels
    line = next(series for series in panel.series if series.error is not None)
    best = next(series for series in panel.series if series.style == "best")
    np.testing.assert_array_equal(line.y, LOSSES)
    assert (best.x[0], best.y[0]) == (PENALTIES[2], LOSSES[2])
    assert panel.y.low <= LOSSES.min() - 0.04 < LOSSES.max() + 0.04 <= panel.y.high
    assert panel.x.log
    assert draw_svg(charts.penalty_chart(grid()), "a").count('<line class="error train"') == 6
    # What no fold can tell is left out; one penalty makes no chart; one of 0 stands at the left end.
    broken = charts.penalty_chart(grid(np.array([np.nan, *LOSSES[1:]])))
    assert len(broken.legend[0].x) == 5
    assert charts.penalty_chart(grid(LOSSES[2:3], PENALTIES[2:3], chosen=0)) is None
    (panel,) = charts.penalty_chart(grid(penalties=np.array([0.0, *PENALTIES[1:]]))).panels
    assert panel.x(panel.series[1].x)[0] == 0
    (panel,) = charts.penalty_chart(grid(100 * LOSSES**9)).panels
    assert panel.y.log
    bound = charts.penalty_chart(grid(select="one_standard_error", chosen=3)).legend[1]
    np.testing.assert_allclose(bound.y, LOSSES[2] + 0.04)


def test_labels_of_lines_are_apart_and_in_their_order():
    made = grid(columns=20)
    (panel,) = charts.path_chart(made).panels
    places = panel.label_places(13 / panel.height)
    heights = np.array([place for _, place in places])
    assert np.diff(heights).min() >= 13 / panel.height - 1e-9
    assert (heights[0], heights[-1]) >= (0, 0)
    assert heights[-1] <= 1
    assert (np.diff([series.y[0] for series, _ in places]) >= 0).all()
    # A line alone has its label at its side.
    (panel,) = charts.path_chart(grid(columns=1)).panels
    ((series, place),) = panel.label_places(0.05)
    assert place == pytest.approx(float(panel.y(series.y[0])))
    assert charts.path_chart(grid(columns=0)) is None


def test_lines_can_be_told_apart_and_those_left_out_are_counted():
    chart = charts.path_chart(grid(columns=LARGEST, coefficients=30))
    lines = [series for series in chart.panels[0].series if series.label]
    looks = {(png.STYLES[line.style].color, png.STYLES[line.style].line) for line in lines}
    assert len(looks) == len({line.style for line in lines}) == LARGEST
    assert "20 largest of 30" in chart.title
    drawn = draw_svg(chart, "a")
    assert all(f'class="line {line.style}"' in drawn for line in lines)
    style = (Path(charts.__file__).parent / "style.css").read_text()
    names = {name for line in lines for name in line.style.split()} - {"dash-0"}
    assert all(f".{name} " in style for name in names)
    assert "largest" not in charts.path_chart(grid(columns=3)).title


@pytest.mark.parametrize("name", GRID_PICTURES)
def test_pictures_have_all_text_within_them(name):
    names = tuple((f"the measurement with the number {j}",) for j in range(20))
    figure = png.draw_picture(replace(report(), grid=grid(columns=20, names=names)), name)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    drawn = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
    assert len(axes.texts) == (20 if name == "path.png" else 0)
    boxes = [Text.get_window_extent(text) for text in drawn]  # without the line from an annotation to its place
    assert all(((box.get_points() >= 0) & (box.get_points() <= figure.bbox.max)).all() for box in boxes)
    labels = sorted(box.y0 for box in boxes[3:])
    assert not labels or np.diff(labels).min() > 0.8 * boxes[3].height


@pytest.mark.parametrize("listed", [True, False])
def test_the_page_has_a_section_whose_tables_can_be_sorted(listed):
    text = render(replace(report(), grid=grid(columns=2, names=((HOSTILE,), ("b",)), listed=listed)))
    page = Page(text)
    tables = [each for each in page.all("table") if each.get("class") == "sortable"]
    assert len(tables) == 1 + listed
    assert ("grid.csv has all models" in text) != listed
    assert [head["aria-sort"] for head in page.all("th") if "aria-sort" in head] == ["ascending"] * len(tables)
    assert sum(row.get("class") == "chosen" for row in page.all("tr")) == 1
    values = [float(cell["data-value"]) for cell in page.all("td") if "data-value" in cell]
    assert values[:4] == pytest.approx([1e-4, 0.5, 0.9, 0.04])
    assert "nan" not in "".join(page.text).lower()
    assert not page.all("img")
    assert {"href": "#penalty"} in page.all("a")


def test_a_least_loss_at_an_end_is_told():
    assert grid().ends == ""
    assert "strongest" in grid(LOSSES[::-1].cumsum()[::-1]).ends
    assert "weakest" in grid(LOSSES.cumsum()).ends
