"""flashlogit.report.plots: the file it leaves, and what is drawn for ordinary and degenerate runs."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from flashlogit.metrics.binary import roc, sigmoid
from flashlogit.report import plots
from flashlogit.report.plots import DPI, SIZE_INCHES, SplitScores, draw_run, one_against_the_rest, plot_run

HISTORY = [
    {"epoch": e, "train_loss": 0.7 / e, "validation_loss": 0.5 + (e - 4) ** 2 / 50} for e in range(1, 9)
]


def split(n=200, seed=0, weighted=False) -> SplitScores:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=n)
    y = (rng.random(n) < sigmoid(logits)).astype(np.uint8)
    return SplitScores(logits, y, rng.random(n) if weighted else None)


def one_class(n=5) -> SplitScores:
    return SplitScores(np.linspace(-2, 1, n), np.zeros(n, np.uint8))


def separated() -> SplitScores:
    return SplitScores(np.array([-40.0, 40.0]), np.array([0, 1], np.uint8))


SPLITS = {"train": split(), "validation": split(seed=1), "test": split(seed=2, weighted=True)}


@pytest.fixture
def drawn():
    """Draws a run and gives its panels by title, without writing it."""

    def draw(history, splits, bins=10):
        figure = draw_run(history, splits, bins=bins, title="run")
        figure.draw_without_rendering()
        return dict(zip(("loss", "roc", "calibration", "rows"), figure.axes, strict=True))

    return draw


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_writes_a_png_of_the_expected_size_and_nothing_else(tmp_path):
    path = tmp_path / "curves.png"
    plot_run(HISTORY, SPLITS, path, bins=10, title="breast-cancer")
    image = imread(path)
    assert image.shape[:2] == (round(SIZE_INCHES[1] * DPI), round(SIZE_INCHES[0] * DPI))
    assert image[..., :3].std() > 0.05
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_failure_keeps_the_old_picture_and_leaves_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def fails_halfway(self, target, **kwargs):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fails_halfway)
    with pytest.raises(OSError, match="disk full"):
        plot_run(HISTORY, SPLITS, path, bins=10, title="run")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_touches_no_global_setting_and_no_pyplot(tmp_path):
    before = dict(mpl.rcParams)
    plot_run(HISTORY, SPLITS, tmp_path / "curves.png", bins=10, title="run")
    assert dict(mpl.rcParams) == before
    code = "import sys, flashlogit.report.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("history", "splits"),
    [
        ([], SPLITS),
        (HISTORY[:1], SPLITS),
        ([{"epoch": 1, "train_loss": 0.5}], {"train": separated()}),
        (HISTORY, {"train": split(), "test": one_class()}),
        (HISTORY, {"train": one_class(1)}),
        (HISTORY, {}),
        ([{"epoch": e, "train_loss": 0.0, "validation_loss": None} for e in (1, 2)], {"train": separated()}),
        ([{"epoch": e, "train_loss": 10.0 ** (20 - e)} for e in range(30)], SPLITS),
        ([{"epoch": 1, "train_loss": 1e308}, {"epoch": 2, "train_loss": 5e-324}], SPLITS),
        ([{"epoch": 1, "train_loss": 1e100}, {"epoch": 2, "train_loss": 1e-100}], SPLITS),
        ([{"epoch": e, "train_loss": float("nan"), "validation_loss": float("inf")} for e in (1, 2)], SPLITS),
    ],
)
def test_degenerate_runs_are_drawn_without_warnings(tmp_path, history, splits):
    plot_run(history, splits, tmp_path / "curves.png", bins=10, title="a $ sign and " + "a long title " * 20)
    assert imread(tmp_path / "curves.png").ndim == 3


def test_best_validation_epoch_is_marked(drawn):
    loss = drawn(HISTORY, SPLITS)["loss"]
    assert legend(loss) == ["train", "validation", "lowest validation loss: 0.5, epoch 4"]
    star = loss.lines[-1]
    assert (star.get_marker(), star.get_xdata(), star.get_ydata()) == ("*", [4], [0.5])


def test_epochs_without_validation_are_left_out(drawn):
    history = [
        {**row, "validation_loss": row["validation_loss"] if row["epoch"] % 2 else None} for row in HISTORY
    ]
    loss = drawn(history, SPLITS)["loss"]
    np.testing.assert_array_equal(loss.lines[1].get_xdata(), [1, 3, 5, 7])


def test_no_validation_means_no_star(drawn):
    history = [{"epoch": row["epoch"], "train_loss": row["train_loss"]} for row in HISTORY]
    assert legend(drawn(history, {"train": split()})["loss"]) == ["train"]


def test_single_epoch_is_visible_and_has_one_tick(drawn):
    loss = drawn(HISTORY[:1], SPLITS)["loss"]
    assert all(line.get_marker() not in ("", "None") for line in loss.lines)
    assert [tick for tick in loss.get_xticks() if 0.5 <= tick <= 1.5] == [1]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([0.7, 0.1], "linear"),
        ([1.0, 1e-4], "log"),
        ([1.0, 1e-4, 0.0], "symlog"),
        ([0.0, 0.0], "linear"),
        ([0.7, 0.0], "linear"),
        ([1e20, 0.5], "log"),
    ],
)
def test_scale_of_the_loss(drawn, losses, scale):
    history = [{"epoch": e, "train_loss": loss} for e, loss in enumerate(losses, start=1)]
    assert drawn(history, SPLITS)["loss"].get_yscale() == scale


def test_legends_name_area_and_calibration_error(drawn):
    panels = drawn(HISTORY, {"train": separated(), "test": one_class()})
    assert legend(panels["roc"]) == ["train: AUC 1.0000", "test: one class only, no curve"]
    assert legend(panels["rows"])[0] == "train: expected calibration error 0.0000"


def test_splits_differ_in_colour_and_in_line_and_keep_them_in_every_panel(drawn):
    panels = drawn(HISTORY, SPLITS)
    expected = [to_hex(line.get_color()) for line in panels["roc"].lines[1:]]
    assert len(set(expected)) == 3
    styles = [plots.STYLES[name] for name in SPLITS]
    assert len({style.line for style in styles}) == len({style.marker for style in styles}) == 3
    for name in ("calibration", "loss"):
        lines = [
            line for line in panels[name].lines if line.get_marker() != "*" and line.get_color() != "#7f7f7f"
        ]
        colors = [to_hex(line.get_color()) for line in lines]
        assert colors == expected[: 2 if name == "loss" else 3]


def test_legends_cover_neither_axes_nor_axis_labels(drawn):
    for name, axes in drawn(HISTORY, SPLITS).items():
        if axes.get_legend() is None:
            assert name == "calibration"
            continue
        box = axes.get_legend().get_window_extent()
        assert box.y1 <= axes.xaxis.label.get_window_extent().y0
        assert box.y0 >= 0


def test_rows_of_each_bin_are_shown(drawn):
    scores = SplitScores(np.array([-9.0, -9.0, -9.0, 9.0]), np.array([0, 0, 1, 1], np.uint8))
    rows = drawn(HISTORY, {"train": scores}, bins=4)["rows"]
    np.testing.assert_array_equal(rows.patches[0].get_data().values, [3, 0, 0, 1])


def test_long_loss_curve_is_thinned_but_keeps_ends_and_peaks(drawn):
    losses = np.full(50_000, 0.5)
    losses[12_345] = 0.9
    losses[23_456] = 0.1
    history = [{"epoch": e, "train_loss": loss} for e, loss in enumerate(losses)]
    epochs = drawn(history, {"train": separated()})["loss"].lines[0].get_xdata()
    assert len(epochs) <= 2002
    assert {0, 12_345, 23_456, 49_999} <= set(epochs.astype(int))


def test_roc_of_many_rows_is_thinned_and_stays_where_it_was(drawn):
    scores = split(100_000)
    x, y = drawn(HISTORY, {"train": scores})["roc"].lines[1].get_data()
    assert len(x) <= 2000
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    full = roc(scores.logits, scores.y, sample_weight=None)
    # Both as functions of the way along the curve, which has no vertical parts.
    way = full.false_positive_rate + full.true_positive_rate
    np.testing.assert_allclose(np.interp(way, x + y, y), full.true_positive_rate, atol=2e-3)


def test_classes_are_pooled_and_said_to_be(drawn, monkeypatch):
    rng = np.random.default_rng(0)
    scores = SplitScores(rng.normal(size=(100, 3)), rng.integers(0, 3, 100))
    panels = drawn(HISTORY, {"train": scores})
    for name in ("roc", "calibration"):
        assert panels[name].get_title().endswith("\nall classes against the rest, pooled")
    assert panels["rows"].get_ylabel() == "class decisions"
    assert panels["rows"].patches[0].get_data().values.sum() == 300
    monkeypatch.setattr(plots, "POOLED_DECISIONS", 150)
    panels = drawn(HISTORY, {"train": scores})
    assert panels["roc"].get_title().endswith("(a sample of rows)")
    assert drawn(HISTORY, SPLITS)["rows"].get_ylabel() == "rows in bin"


def test_decisions_of_many_classes_are_a_sample_of_rows_with_all_their_classes(monkeypatch):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(1000, 5)), rng.integers(0, 5, 1000)
    scores = SplitScores(z, y, rng.random(1000))
    everything = one_against_the_rest(scores)
    assert (len(everything.y), everything.y.sum()) == (5000, 1000)
    monkeypatch.setattr(plots, "POOLED_DECISIONS", 500)
    sample = one_against_the_rest(scores)
    assert (len(sample.y), sample.y.sum(), len(sample.sample_weight)) == (500, 100, 500)
    assert set(sample.logits) <= set(everything.logits)
