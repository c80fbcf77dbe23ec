"""The report's PNG files: what is drawn, and that it lies within them."""

import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from reports import HOSTILE, TRAINED, one_class, report, scores

from flashlogit.metrics.scores import SplitScores
from flashlogit.report import PICTURES, charts, png

K = 23


@pytest.fixture(scope="module")
def two():
    return report(labels=("a long name of a class, the negative", "a long name of a class, the positive"))


@pytest.fixture(scope="module")
def many():
    """Every picture of many classes with long names, by its file's name."""
    labels = tuple(f"class number {k} of a long table of classes" for k in range(K))
    names = tuple(f"the measurement with the number {j}" for j in range(5))
    made = report(K, splits={"train": scores(2000, K), "test": scores(6000, K, 1)}, labels=labels, names=names)
    figures = {name: png.draw_picture(made, name) for name in PICTURES}
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_all_text_lies_within_the_picture(many):
    for name, figure in many.items():
        drawn = [text for legend in figure.legends for text in legend.get_texts()]
        for axes in figure.axes:
            drawn += [axes.title, axes.xaxis.label, axes.yaxis.label]
            drawn += axes.get_yticklabels() if name in ("confusion.png", "coefficients.png") else []
            drawn += axes.get_xticklabels() if name == "confusion.png" else []
        for text in (one for one in drawn if one.get_text()):
            corners = text.get_window_extent().get_points()
            assert ((corners >= 0) & (corners <= figure.bbox.max)).all(), text.get_text()


def test_counts_of_many_classes_are_apart(many):
    axes = many["confusion.png"].axes[0]
    cell = axes.get_window_extent().width / len(axes.get_xticks())
    widths = [text.get_window_extent().width for text in axes.texts]
    assert len(widths) == 21**2
    assert max(widths) < 0.95 * cell


def test_the_matrix_of_two_classes_has_their_names_and_counts(two):
    figure = png.draw_picture(two, "confusion.png")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    left, right = (text.get_window_extent() for text in axes.get_xticklabels())
    assert left.x1 < right.x0
    tn, fn, fp, tp = two.questions[0].headline("test").counts()
    assert [float(text.get_text()) for text in axes.texts] == [tn, fp, fn, tp]


LABELS = ("$\\frac{{ 0", "\u6f22\u5b57 \u202eabc", "\u05e2\u05d1")
HOSTILE_NAMES = {"names": (HOSTILE, "$x_$", "%s", "", "e"), "labels": LABELS}


@pytest.mark.parametrize("options", [{"splits": {"train": one_class()}, "columns": 1}, {"K": 3, **HOSTILE_NAMES}])
def test_every_chart_is_a_file_and_warns_nobody(tmp_path, options):
    png.write_pictures(report(**options), tmp_path / "pictures")
    files = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert files == set(PICTURES)
    for file in files:
        assert imread(tmp_path / "pictures" / file)[..., :3].std() > 0.02


def test_hostile_names_are_shown_as_they_are():
    made = report(3, **HOSTILE_NAMES)
    classes, bars = (png.draw_picture(made, f"{name}.png").axes[0] for name in ("confusion", "coefficients"))
    shown = [label.replace("\u202e", "\ufffd") for label in LABELS]
    assert [tick.get_text() for tick in classes.get_yticklabels()] == shown
    assert all(tick.get_text().startswith("\u2068") and " → " in tick.get_text() for tick in bars.get_yticklabels())


def test_pictures_appear_whole_and_touch_nothing_else(two, tmp_path, monkeypatch):
    before, path = dict(mpl.rcParams), tmp_path / "training.png"
    png.write_pictures(two, tmp_path)
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    old = path.read_bytes()

    def fails_halfway(self, target, **kwargs):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fails_halfway)
    with pytest.raises(OSError, match="disk full"):
        png.write_pictures(two, tmp_path)
    assert path.read_bytes() == old
    assert {file.name for file in tmp_path.iterdir()} == set(PICTURES)


@pytest.mark.parametrize(
    ("losses", "low", "log"),
    [
        ([0.7, 0.1], None, False),
        ([1.0, 1e-4, 0.0], 1e-4, True),
        ([0.7, 0.0, float("nan"), None, 1e308], None, False),
        ([1e100, 1e-100, 5e-324], 1e-100, True),
        ([0.0], None, False),
        ([1e99], None, False),
    ],
)
def test_the_axis_of_the_loss(two, losses, low, log):
    chart = charts.history_chart([{"epoch": e, "train_loss": loss} for e, loss in enumerate(losses, start=1)], TRAINED)
    (panel,) = chart.panels
    assert panel.y.log == log
    assert low is None or panel.y.low == pytest.approx(low)
    assert panel.x.ticks
    assert all(tick == int(tick) for tick in panel.x.ticks)
    x = panel.series[0].x
    assert len(x) == sum(loss is not None and loss <= 1e100 for loss in losses)
    assert ((panel.y(panel.series[0].y) >= 0) & (panel.y(panel.series[0].y) <= 1)).all()
    made = png.draw_picture(replace(two, history=chart), "training.png")
    made.draw_without_rendering()
    assert made.axes[0].get_yscale() == ("log" if log else "linear")


def test_a_long_history_keeps_its_ends_and_peaks_and_names_its_best():
    losses = np.full(50_000, 0.5)
    losses[[12_345, 23_456]] = 0.9, 0.1
    history = [{"epoch": e, "train_loss": None, "validation_loss": loss} for e, loss in enumerate(losses)]
    line, best = charts.history_chart(history, TRAINED).legend
    assert len(line.x) <= 402
    assert {0, 12_345, 23_456, 49_999} <= set(line.x.astype(int))
    assert (best.x.tolist(), best.words) == ([23_456], "0.1, epoch 23456")


def test_charts_draw_their_own_curves_and_counts_with_the_splits_colours(two):
    question, decisions = two.questions[0], two.questions[0].decisions
    for name, build in (("roc", charts.roc_chart), ("precision_recall", charts.precision_recall_chart)):
        axes = png.draw_picture(two, f"{name}.png").axes[0]
        drawn = {line.get_color(): line for line in axes.lines if len(line.get_xdata())}  # the legend's are empty
        for series, decision in zip(build(charts.by_split(question), "").legend, decisions, strict=True):
            curve, line = getattr(decision, name), drawn[png.STYLES[decision.split].color]
            np.testing.assert_array_equal([series.x, series.y], [curve.x, curve.y])
            np.testing.assert_array_equal(line.get_data(), [curve.x, curve.y])
    negative, positive = charts.scores_chart(question, "test", threshold=True).legend
    np.testing.assert_array_equal([negative.y, positive.y], question.headline("test").histogram)
    assert len({(s.line, s.marker, s.color) for s in map(png.STYLES.get, ("train", "validation", "test"))}) == 3


CURVES = ("training", "roc", "calibration")


def test_legends_name_areas(two):
    gap, roc, calibration = (legend(png.draw_picture(two, f"{name}.png")) for name in CURVES)
    assert gap == ["estimated: 1e−5 at the end", "tolerance: 1e−6"]
    assert roc == [f"{d.split}: AUC {d.roc_auc:.4g}" for d in two.questions[0].decisions]
    assert calibration[0].startswith("train: expected error 0.0")
    nothing = png.draw_picture(report(splits={"train": scores(), "test": one_class()}), "roc.png")
    assert legend(nothing)[1] == "test: one class only, no curve"


def test_curves_of_classes_are_those_of_each_against_the_rest(many):
    roc = many["roc.png"]
    assert "test rows, each class against the rest" in roc.axes[0].get_title()
    assert len(legend(roc)) == 20
    assert len({(line.get_color(), line.get_linestyle()) for line in roc.axes[0].lines[1:21]}) == 20


def test_rows_of_each_bin_are_shown_on_an_axis_that_ends_where_they_do():
    split = SplitScores(np.array([-9.0, -9.0, -9.0, 9.0]), np.array([0, 0, 1, 1], np.uint8))
    counts = png.draw_picture(report(splits={"train": split}), "calibration.png").axes[1]
    np.testing.assert_array_equal(counts.patches[0].get_data().values, [3, *[0.5] * 8, 1])
    assert min(counts.get_yticks()) >= 1
