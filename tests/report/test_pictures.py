"""The report's PNG files: what is drawn in them lies within them, also for many classes and long names."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text
from reports import GAPS, report, scores

from flashlogit.report import write_pictures
from flashlogit.report.names import isolated, plain, shortened, shortened_pair
from flashlogit.report.pictures import PICTURES, draw_picture

K = 23


@pytest.fixture(scope="module")
def many():
    labels = tuple(f"class number {k} of a long table of classes" for k in range(K))
    names = tuple(f"the measurement with the number {j}" for j in range(5))
    return report(
        K, splits={"train": scores(3000, K), "test": scores(30_000, K, 1)}, labels=labels, names=names
    )


@pytest.mark.parametrize("name", PICTURES)
def test_all_text_lies_within_the_picture(many, name):
    figure = draw_picture(many, name)
    figure.draw_without_rendering()
    drawn = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        drawn += [axes.title, axes.xaxis.label, axes.yaxis.label]
        if name in ("confusion.png", "coefficients.png"):
            drawn += axes.get_yticklabels()
    if name == "confusion.png":
        drawn += figure.axes[0].get_xticklabels()
    for text in filter(Text.get_text, drawn):
        (left, bottom), (right, top) = text.get_window_extent().get_points()
        assert min(left, bottom) >= 0, text.get_text()
        assert right <= figure.bbox.x1, text.get_text()
        assert top <= figure.bbox.y1, text.get_text()


def test_counts_of_many_classes_are_apart(many):
    figure = draw_picture(many, "confusion.png")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / (len(axes.get_xticks()))
    widths = [text.get_window_extent().width for text in axes.texts]
    assert len(widths) == 21**2
    assert max(widths) < 0.95 * cell
    labels = axes.get_xticklabels()
    # Text at 45 degrees is apart where its anchors are further apart than 1.4 lines of it.
    anchors = [text.get_window_extent().x1 for text in labels]
    line = labels[0].get_fontsize() * figure.dpi / 72
    assert min(later - earlier for earlier, later in pairwise(anchors)) > 1.42 * line


def test_names_of_two_classes_are_apart():
    made = report(labels=("a long name of a class, the negative", "a long name of a class, the positive"))
    figure = draw_picture(made, "confusion.png")
    figure.draw_without_rendering()
    left, right = (text.get_window_extent() for text in figure.axes[0].get_xticklabels())
    assert left.x1 < right.x0


def test_the_axis_of_counts_ends_where_they_do():
    made = report(splits={"train": scores(3000)})
    figure = draw_picture(made, "calibration.png")
    counts = figure.axes[1]
    most = max(made.questions[0].decisions[0].calibration.rows)
    assert min(counts.get_yticks()) >= 1
    assert max(counts.get_yticks()) <= most
    assert counts.get_ylabel() == "rows in bin, train"


def test_decisions_of_classes_are_not_called_rows(many):
    assert draw_picture(many, "calibration.png").axes[1].get_ylabel() == "class decisions in bin, test"


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_iterations_are_whole(iterations):
    axes = draw_picture(report(history=GAPS[:iterations]), "training.png").axes[0]
    assert axes.get_xticks().size
    np.testing.assert_array_equal(axes.get_xticks() % 1, 0)


def test_scripts_that_the_font_lacks_warn_nobody(tmp_path, monkeypatch):
    labels = ("\u6f22\u5b57", "\u202eabc", "\u05e2\u05d1")
    for name in ("training.png", "roc.png", "precision_recall.png", "calibration.png", "coefficients.png"):
        monkeypatch.delitem(PICTURES, name)  # the others have names enough
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_pictures(report(3, labels=labels, names=("\u6f22", *"abcd")), tmp_path / "pictures")


def test_long_names_keep_their_head_and_tail():
    assert shortened("carrier=EV", 10) == "carrier=EV"
    assert shortened("the temperature of the engine, front", 20) == "the temperatu… front"
    assert len(shortened("x" * 99, 24)) == 24
    assert shortened_pair("x3", "class 17 of a table", 20) == ("x3", "class 17 of… table")
    assert shortened_pair("class 17 of a table", "x3", 20) == ("class 17 of… table", "x3")
    assert sum(map(len, shortened_pair("a" * 30, "b" * 30, 20))) == 20
    assert shortened_pair("abc", "def", 20) == ("abc", "def")


def test_plain_names_turn_no_text_around():
    assert plain("a\u202eb\u2067c\nd") == "a\ufffdb\ufffdc d"
    assert plain("\u05d0\u05d1") == "\u05d0\u05d1"
    assert isolated("\u2069x") == "\u2068\ufffdx\u2069"
