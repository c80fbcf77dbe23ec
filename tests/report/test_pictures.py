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
from flashlogit.report.text import joined

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
    largest = [column.name for column in made.coefficients.columns]
    shown = [label.replace("\u202e", "\ufffd") for label in LABELS]
    assert [tick.get_text() for tick in classes.get_yticklabels()] == shown
    assert [tick.get_text() for tick in bars.get_yticklabels()] == [joined([name], 28) for name in largest]


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
        lines = [series for series in build(charts.by_split(question), "").legend if series.style != "guide"]
        for series, decision in zip(lines, decisions, strict=True):
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
    assert roc == [f"{d.split}: AUC {d.roc_auc:.4f}" for d in two.questions[0].decisions]
    assert calibration[0].startswith("test: expected error 0.0")
    nothing = png.draw_picture(report(splits={"train": scores(), "test": one_class()}), "roc.png")
    assert legend(nothing)[0] == "test: one class only, no curve"


def test_curves_of_classes_are_those_of_each_against_the_rest(many):
    roc = many["roc.png"]
    assert "test rows, each class against the rest" in roc.axes[0].get_title()
    assert len(legend(roc)) == 20
    assert len({(line.get_color(), line.get_linestyle()) for line in roc.axes[0].lines[1:21]}) == 20


def test_the_calibration_has_intervals_of_the_first_split_and_ends_where_its_rates_do():
    rng = np.random.default_rng(0)
    logits = rng.normal(-4, 0.5, 2000)
    rare = SplitScores(logits, (rng.random(2000) < 1 / (1 + np.exp(-logits))).astype(np.uint8))
    made = report(splits={"train": rare, "test": rare})
    (panel,) = charts.calibration_chart(charts.by_split(made.questions[0]), "").panels
    guide, test, train = panel.series
    groups = made.questions[0].headline("test").groups
    low, high = test.ends
    np.testing.assert_allclose(
        [test.x, test.y, low, high], [groups.mean_probability, groups.observed_rate, groups.low, groups.high]
    )
    assert (guide.style, test.style, train.style, train.error) == ("guide", "test", "train", None)
    assert panel.x.high == panel.y.high == guide.y[1] == pytest.approx(1.05 * high.max())
    assert panel.x.high < 0.2
    drawn = png.draw_picture(made, "calibration.png").axes[0].collections[0].get_segments()
    np.testing.assert_allclose([ends[:, 1] for ends in drawn], np.column_stack([low, high]))


def test_the_gain_is_the_recall_of_the_most_probable_rows_and_the_lift_its_multiple(two):
    question = two.questions[0]
    gain, lift = charts.gain_chart(charts.by_split(question), "").panels
    test, of_lift = gain.series[1], lift.series[1]
    split = scores(seed=2)
    order = np.argsort(-split.logits)
    for share, found in zip(test.x.tolist(), test.y.tolist(), strict=True):
        assert found == pytest.approx(split.y[order[: round(500 * share)]].sum() / split.y.sum())
    np.testing.assert_allclose(of_lift.y, test.y[2:] / test.x[2:])  # of ten rows on
    assert (test.style, of_lift.style, of_lift.x[0]) == ("test", "test", 0.02)
    rows = [row for row in charts.gain_chart(charts.by_split(question), "").rows if row[0] == "test"]
    assert [row[1] for row in rows][:3] == ["1%", "5%", "10%"]
    assert float(rows[2][4]) == pytest.approx(10 * split.y[order[:50]].mean() * 50 / split.y.sum(), abs=0.005)
    assert float(rows[2][2]) == pytest.approx(np.sort(1 / (1 + np.exp(-split.logits)))[-50], abs=5e-5)
    nothing = charts.gain_chart(charts.by_split(report(splits={"train": one_class()}).questions[0]), "")
    assert nothing.legend[0].words == "no positive row"


def test_equal_scores_are_taken_in_random_order():
    split = SplitScores(np.repeat([1.0, 0.0], [10, 30]), np.repeat([1, 0, 1, 0], [6, 4, 6, 24]).astype(np.uint8))
    decision = report(splits={"train": split}).questions[0].headline("train")
    np.testing.assert_allclose(decision.gain[[0, 10, 25, 50, 100]], [0, 0.2, 0.5, 0.5 + 0.5 / 3, 1])
    np.testing.assert_allclose(decision.gain_from[[10, 25, 26]], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-1)), 0.5])
