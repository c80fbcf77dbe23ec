"""The picture of a run: its loss over the epochs, and how well it ranks and how well it is calibrated.

Drawn with matplotlib's object interface on an Agg canvas: no display, no pyplot, no global setting touched.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import auc

from ..metrics.binary import Calibration, RocCurve, calibration, roc
from ..metrics.multiclass import AgainstTheRest
from ..system.files import write_atomically

SIZE_INCHES = (13.5, 5.6)
DPI = 120
"""Pixels per inch: the picture is `SIZE_INCHES` times this."""

POOLED_DECISIONS = 500_000
"""Most decisions of all classes together that curves are drawn from."""
_DRAWN_POINTS = 2000
"""Most points drawn of a curve; more than a panel has pixels across."""
_LOG_SCALE_FROM = 50.0
"""Ratio of the largest to the smallest loss from which a linear axis hides the end of the curve."""
_SMALLEST_LOSS, _LARGEST_LOSS = 1e-100, 1e100
"""Losses drawn as they are; matplotlib's logarithmic axes overflow near the ends of float64."""
_MARKERS_UP_TO = 30
"""Points of a curve up to which each gets a marker (a single one would be invisible without)."""
_TITLE_CHARACTERS = 120
"""Characters that fit beside each other in the heading."""
_GREY = "#7f7f7f"


@dataclass(frozen=True)
class SplitScores:
    """What a model says about a split.

    logits are [N] float64, y [N] uint8 (0 or 1), sample_weight [N] float, or None for ones. For K > 2 classes logits
    are [N, K] and y class numbers.
    """

    logits: NDArray[np.float64]
    y: NDArray[np.integer]
    sample_weight: NDArray[np.floating] | None = None

    @cached_property
    def rest(self) -> AgainstTheRest:
        """Each of K > 2 classes against all others; computed once."""
        return AgainstTheRest(self.logits)


def one_against_the_rest(split: SplitScores) -> SplitScores:
    """All classes' decisions against the rest one after the other, as if each were a row; two classes as they are.

    Of more than `POOLED_DECISIONS` a random sample of rows gives that many: all of 250,000 rows and 20 classes took
    longer to sort than the model to train, for curves that look the same.
    """
    if split.logits.ndim == 1:
        return split
    N, K = split.logits.shape
    most = max(POOLED_DECISIONS // K, 1)
    rows = np.arange(N) if most >= N else np.sort(np.random.default_rng(0).permutation(N)[:most])
    weight = None if split.sample_weight is None else np.asarray(split.sample_weight)[rows]
    if weight is not None and not weight.any():  # of a sample; no curve can be drawn of nothing
        rows, weight = np.arange(N), np.asarray(split.sample_weight)
    return SplitScores(
        np.concatenate([split.rest.logits(k)[rows] for k in range(K)]),
        np.concatenate([split.y[rows] == k for k in range(K)]).astype(np.uint8),
        None if weight is None else np.tile(weight, K),
    )


@dataclass(frozen=True)
class Style:
    """How a split is drawn, the same in every panel."""

    color: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str


# Okabe and Ito's palette, whose colours stay apart for colour-blind readers; lines and markers differ too.
STYLES = {
    "train": Style("#0072B2", "solid", "o"),
    "validation": Style("#D55E00", (0, (5, 2)), "s"),
    "test": Style("#009E73", (0, (1.5, 1.5)), "^"),
}
OTHER_STYLE = Style("#CC79A7", (0, (5, 1.5, 1, 1.5)), "D")


def plot_run(
    history: Sequence[Mapping[str, float | None]],
    splits: Mapping[str, SplitScores],
    path: Path,
    *,
    bins: int,
    title: str,
    tolerance: float | None = None,
    proven: bool = True,
) -> None:
    """Write the picture of `draw_run` as a PNG.

    Args:
        history, splits, bins, title, tolerance, proven: see `draw_run`.
        path: the .png file; it appears whole or not at all, and replaces one that is there.

    Raises:
        ValueError: scores that `flashlogit.metrics.binary.evaluate` would refuse.
        OSError: the file cannot be written.
    """
    figure = draw_run(history, splits, bins=bins, title=title, tolerance=tolerance, proven=proven)
    write_png(figure, path)


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure; it appears whole or not at all.

    Of a name in a script that matplotlib's own font lacks there are boxes. Nobody can mend that by a warning on the
    terminal for each of its characters; the page has the name.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        write_atomically(path, lambda unfinished: figure.savefig(unfinished, format="png"))


def draw_run(
    history: Sequence[Mapping[str, float | None]],
    splits: Mapping[str, SplitScores],
    *,
    bins: int,
    title: str,
    tolerance: float | None = None,
    proven: bool = True,
) -> Figure:
    """Loss over epochs or gap over iterations, ROC curves and calibration curves in one figure.

    Args:
        history: one mapping per epoch with `epoch`, `train_loss` and, where there is one, `validation_loss`; or one per
            iteration of a solver with `iteration` and `relative_gap`.
            A loss that is None, NaN or above 1e100 is left out.
        splits: scores by split name, as `flashlogit.metrics.binary.evaluate` takes them; `train`, `validation` and
            `test` have colours of their own. Of K > 2 classes, all decisions of a class against the rest are pooled.
        bins: equal-width bins of probability of the calibration curve.
        title: heading of the picture.
        tolerance: of a solver, on its relative gap.
        proven: whether that is a duality gap; without a penalty it is half the squared Newton decrement.

    Raises:
        ValueError: scores that `flashlogit.metrics.binary.evaluate` would refuse.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(title, _TITLE_CHARACTERS), parse_math=False)
    panels = figure.subplot_mosaic(
        [["loss", "roc", "calibration"], ["loss", "roc", "rows"]], height_ratios=[3.5, 1]
    )
    if history and "relative_gap" in history[-1]:
        _draw_gap(
            panels["loss"], history, tolerance, "gap" if proven else "half the squared Newton decrement"
        )
    else:
        _draw_loss(panels["loss"], history)
    pooled = {name: one_against_the_rest(split) for name, split in splits.items()}
    _draw_roc(panels["roc"], pooled)
    _draw_calibration(panels["calibration"], panels["rows"], pooled, bins)
    if any(split.logits.ndim == 2 for split in splits.values()):
        sampled = any(len(pooled[name].y) < split.logits.size for name, split in splits.items())
        words = "all classes against the rest, pooled" + ("\n(a sample of rows)" if sampled else "")
        for panel in (panels["roc"], panels["calibration"]):
            panel.set_title(f"{panel.get_title()}\n{words}")
        panels["rows"].set_ylabel("class decisions", fontsize="small")
    return figure


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, float | None]]) -> None:
    """Training and validation loss over epochs, with a star on the lowest validation loss."""
    axes.set(title="Loss", xlabel="epoch", ylabel="mean loss (nats)")
    recorded = {name: _recorded(history, f"{name}_loss") for name in ("train", "validation")}
    recorded = {name: (epochs, losses) for name, (epochs, losses) in recorded.items() if losses.size}
    if not recorded:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no loss recorded", ha="center", va="center", transform=axes.transAxes)
        return
    for name, (epochs, losses) in recorded.items():
        style = STYLES[name]
        kept = _envelope(losses)
        marker = style.marker if losses.size <= _MARKERS_UP_TO else ""
        (line,) = axes.plot(epochs[kept], losses[kept], label=name, c=style.color, ls=style.line)
        line.set(marker=marker, mfc="none", ms=5)
    if "validation" in recorded:
        _mark_lowest(axes, *recorded["validation"])
    _scale_epochs(axes, np.concatenate([epochs for epochs, _ in recorded.values()]))
    _scale_loss(axes, np.concatenate([losses for _, losses in recorded.values()]))
    axes.grid(alpha=0.3)
    _legend_below(axes)


def _draw_gap(
    axes: Axes, history: Sequence[Mapping[str, float | None]], tolerance: float | None, what: str
) -> None:
    """A solver's relative gap, or what stands for it, over its iterations, on its way down to the tolerance."""
    axes.set(
        title=f"{what[0].upper()}{what[1:]}",
        xlabel="iteration",
        ylabel="as a share of the null model's objective",
    )
    pairs = np.array([(row["iteration"], row["relative_gap"]) for row in history], dtype=np.float64)
    iterations, gaps = pairs[(pairs[:, 1] > _SMALLEST_LOSS) & (pairs[:, 1] <= _LARGEST_LOSS)].T
    kept = _envelope(gaps)
    style = STYLES["train"]
    marker = style.marker if gaps.size <= _MARKERS_UP_TO else ""
    axes.plot(iterations[kept], gaps[kept], c=style.color, marker=marker, mfc="none", ms=5, label="estimated")
    if gaps.size and pairs[-1, 1] > 0:
        label = f"at the end: {gaps[-1]:.1e}"
        axes.plot(iterations[-1], gaps[-1], "*", ms=13, mfc="#F0E442", mec="black", mew=0.8, label=label)
    if tolerance is not None:
        axes.axhline(tolerance, color=_GREY, ls="--", lw=1, label=f"tolerance: {tolerance:.0e}")
    if gaps.size:
        axes.set_yscale("log")
        _scale_epochs(axes, iterations)
    axes.grid(alpha=0.3)
    _legend_below(axes)


def _mark_lowest(axes: Axes, epochs: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
    """A star on the first epoch with the lowest validation loss."""
    best = np.argmin(losses)
    label = f"lowest validation loss: {losses[best]:.4g}, epoch {epochs[best]:g}"
    axes.plot(epochs[best], losses[best], "*", ms=13, mfc="#F0E442", mec="black", mew=0.8, label=label)


def _recorded(
    history: Sequence[Mapping[str, float | None]], key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs and losses, [E] float64 each, of the history that have a drawable loss under `key`."""
    # None becomes NaN in a float array, and a comparison with NaN is false.
    pairs = np.array([(row["epoch"], row.get(key)) for row in history], dtype=np.float64).reshape(-1, 2)
    epochs, losses = pairs[pairs[:, 1] <= _LARGEST_LOSS].T
    return epochs, np.where(losses < _SMALLEST_LOSS, 0.0, losses)


def _envelope(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the values [E] to draw: all of a few, else the extremes of each stretch: no peak is lost."""
    if values.size <= _DRAWN_POINTS:
        return np.arange(values.size)
    starts = np.linspace(0, values.size, _DRAWN_POINTS // 2 + 1).astype(np.int64)
    extremes = [
        start + place
        for start, stop in pairwise(starts)
        for place in (values[start:stop].argmin(), values[start:stop].argmax())
    ]
    return np.unique([0, *extremes, values.size - 1])


def _scale_epochs(axes: Axes, epochs: NDArray[np.float64]) -> None:
    """Ticks at whole epochs, also where there is only one."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if epochs.min() == epochs.max():
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)


def _scale_loss(axes: Axes, losses: NDArray[np.float64]) -> None:
    """A logarithmic axis for losses over a wide range; linear around 0 where some are exactly 0."""
    positive = losses[losses > 0]
    if positive.size and positive.max() / _LOG_SCALE_FROM > positive.min():
        if positive.size == losses.size:
            axes.set_yscale("log")
        else:
            axes.set_yscale("symlog", linthresh=max(positive.min(), positive.max() * 1e-12))
            axes.set_ylim(bottom=0)
    else:
        # "+6.93e-1" in a corner is easily overlooked.
        axes.ticklabel_format(axis="y", useOffset=False)


def _draw_roc(axes: Axes, splits: Mapping[str, SplitScores]) -> None:
    """The ROC curve of each split, with its AUC; a split of one class has only its line in the legend."""
    axes.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    axes.axline((0, 0), slope=1, color=_GREY, lw=0.8)
    for name, scores in splits.items():
        style = STYLES.get(name, OTHER_STYLE)
        curve = roc(scores.logits, scores.y, sample_weight=scores.sample_weight)
        if curve is None:
            axes.plot([], [], " ", label=f"{name}: one class only, no curve")
            continue
        area = auc(curve.false_positive_rate, curve.true_positive_rate)
        x, y = _thinned(curve)
        axes.plot(x, y, color=style.color, ls=style.line, label=f"{name}: AUC {area:.4f}")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    _legend_below(axes)


def _thinned(curve: RocCurve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `_DRAWN_POINTS` points, evenly along the curve: rates only rise, so their sum measures it."""
    fpr, tpr = curve.false_positive_rate, curve.true_positive_rate
    if fpr.size <= _DRAWN_POINTS:
        return fpr, tpr
    way = fpr + tpr
    kept = np.unique(np.searchsorted(way, np.linspace(way[0], way[-1], _DRAWN_POINTS)))
    return fpr[kept], tpr[kept]


def _draw_calibration(axes: Axes, rows_axes: Axes, splits: Mapping[str, SplitScores], bins: int) -> None:
    """Observed against predicted probability per bin, and below it how many rows each bin has."""
    axes.set(title="Calibration (larger marker: more weight)", ylabel="observed rate")
    rows_axes.set(xlabel="predicted probability", ylabel="rows in bin")
    axes.axline((0, 0), slope=1, color=_GREY, lw=0.8)
    most_rows = 1
    for name, scores in splits.items():
        style = STYLES.get(name, OTHER_STYLE)
        curve = calibration(scores.logits, scores.y, sample_weight=scores.sample_weight, bins=bins)
        most_rows = max(most_rows, int(curve.rows.max()))
        _draw_rates(axes, curve, style, bins)
        label = f"{name}: expected calibration error {curve.error:.4f}"
        _draw_rows(rows_axes, curve, style, bins, label)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.tick_params(labelbottom=False)
    rows_axes.set(xlim=(-0.03, 1.03), yscale="log", ylim=(0.7, max(10, 2 * most_rows)))
    rows_axes.tick_params(axis="y", which="minor", left=False)
    for panel in (axes, rows_axes):
        panel.grid(alpha=0.3)
    _legend_below(rows_axes)


def _draw_rates(axes: Axes, curve: Calibration, style: Style, bins: int) -> None:
    """One split's calibration curve. Markers are hollow, so that splits that agree do not hide each other."""
    x, y = curve.mean_probability, curve.observed_rate
    area = min(10, 250 / bins) + 150 * curve.share
    axes.plot(x, y, c=style.color, ls=style.line, lw=1)
    axes.scatter(
        x, y, area, marker=style.marker, facecolors="none", edgecolors=style.color, clip_on=False, zorder=3
    )


def _draw_rows(axes: Axes, curve: Calibration, style: Style, bins: int, label: str) -> None:
    """One split's rows in each bin, as an outline."""
    rows = np.zeros(bins)
    rows[curve.bin] = curve.rows
    edges = np.linspace(0, 1, bins + 1)
    axes.stairs(rows, edges, baseline=None, color=style.color, ls=style.line, label=label)


def _legend_below(axes: Axes) -> None:
    """Under the panel and its axis label, where it can cover no curve; none for a panel without entries."""
    if axes.get_legend_handles_labels()[0]:
        # The pad is in units of the legend's font size, so the same below tall and low panels.
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, fontsize="small", frameon=False
        )
