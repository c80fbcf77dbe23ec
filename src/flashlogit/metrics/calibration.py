"""The calibration curve, which scikit-learn's `calibration_curve` has without weights only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ranking import Floats, totals


@dataclass(frozen=True)
class Calibration:
    """Observed against predicted probability in equal-width bins; arrays are [B], for B bins with weight."""

    bin: NDArray[np.int64]
    """Which bin: bin k of n holds k/n < p <= (k + 1)/n, and bin 0 also p = 0 (as in scikit-learn)."""
    mean_probability: Floats
    """Weighted mean of the predicted probability."""
    observed_rate: Floats
    """Weighted share of positive labels."""
    rows: NDArray[np.int64]
    """Rows with a weight above 0; a plain count."""
    share: Floats
    """Share of the total weight; sums to 1."""

    @property
    def error(self) -> float:
        """Expected calibration error: sum over bins of share * |mean probability - observed rate|.

        Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning",
        with the share of the weight in place of the share of the rows.
        """
        return float(np.sum(self.share * np.abs(self.mean_probability - self.observed_rate)))


def calibrate(p: Floats, y: NDArray[np.integer], share: Floats, bins: int) -> Calibration:
    """Sort rows [N] of probabilities p, labels y and shares of the weight above 0 into bins."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; must be at least 1")
    bin_of_row = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], p)
    rows = np.bincount(bin_of_row, minlength=bins)
    kept = np.flatnonzero(rows)
    weight, mean, rate = (totals(bin_of_row, share * of)[kept] for of in (1.0, p, y))
    return Calibration(kept, mean / weight, rate / weight, rows[kept], weight)
