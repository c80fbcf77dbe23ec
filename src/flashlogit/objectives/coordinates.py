"""The coordinates that solvers work in: columns about their means, each scaled to about unit curvature.

    w_j = d_j theta_j        b = d_b theta_b - c . w        d_j = 1 / sqrt(v sd_j^2 + l2)

c and sd are column means and standard deviations, v = ybar (1 - ybar) the curvature of the null model. With them the
Hessian of P has about ones on its diagonal whatever units a column has, and the l1 and l2 of a column become l1 d_j and
l2 d_j^2. It is a change of variables, so that c and d need not be exact: a sample of the rows measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import reference
from ..passes import Passes

FOLDED_UP_TO = 4.0
"""Largest |mean| / sd at which the centre is folded into the intercept. It costs as many times the rounding errors of
the sums, and spares the subtraction from every tile. A constant column has the penalty's share of d_j in place of sd:
what rounding leaves of it would be multiplied by d_j, and subtracted it is 0 exactly."""
_LEAST_CURVATURE = 1e-16
"""Least l2 from which the scale of a constant column is computed."""
_LEAST_OF_LOSS = 1e-298
"""Columns of less curvature count as constant: the square of their scale would be beyond float64."""
_GROUPS, _OF_GROUP = 3, 5
"""Rows whose differences tell how far apart most values of a column are: a group of them is without outlying rows."""
_OUTLYING = 100.0
"""A standard deviation of so many times the largest difference in a group is made by rows of no such group."""


@dataclass(frozen=True)
class Coordinates:
    """A change of variables between theta [P, K] and (w [D, K], b [K]), all float64.

    Its numbers are on the host, and copied to the device when they are first needed there.

    centers [D] are zero without an intercept; scales are [P]: d and, with an intercept, d_b behind it. `subtract` says
    whether the centre is to be subtracted from X before it is used; otherwise it is folded into the intercept. rounding
    is the sum over the columns of the squared errors of dP/dw_j in the units of X, in units of one row's rounding
    error: of v sd_j^2 beside an intercept, else of v E x_j^2. sizes are the sums of d_j and of d_j^2 over columns that
    are not constant, by which weights of 1 in these coordinates are penalised.
    """

    device: torch.device
    centers: NDArray[np.float64]
    scales: NDArray[np.float64]
    intercept: bool
    subtract: bool
    rounding: float
    sizes: tuple[float, float]

    @property
    def center(self) -> Tensor:
        """The centers on the device, [D] float64."""
        return self._on_device[0]

    @property
    def scale(self) -> Tensor:
        """The scales on the device, [P] float64."""
        return self._on_device[1]

    @cached_property
    def _on_device(self) -> list[Tensor]:
        return uploaded(self.device, self.centers, self.scales)

    def centred(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return (w [D, K], intercept [K] of the centred columns)."""
        scaled = theta * self.scale[:, None]
        D = len(self.center)
        return scaled[:D], scaled[D] if self.intercept else torch.zeros_like(scaled[0])

    def about_center(self, matrix: Tensor) -> Tensor:
        """Return sums over (x, 1) (x, 1)^T [D + 1, D + 1] as those over (x - center, 1) (x - center, 1)^T."""
        c = torch.cat([self.center, self.center.new_zeros(1)])
        border, corner = matrix[-1].clone(), matrix[-1, -1]
        return matrix.addr(c, border - corner * c, alpha=-1).addr_(border, c, alpha=-1)

    def to_user(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return (w [D, K], b [K]) in the units of X."""
        w, b = self.centred(theta)
        return w, b - self.center @ w

    def from_user(self, w: Tensor, b: Tensor) -> Tensor:
        """Return theta [P, K] of w [D, K] and b [K]."""
        rows = [w, (b + self.center @ w)[None, :]] if self.intercept else [w]
        return torch.cat(rows) / self.scale[:, None]


def measure_coordinates(
    X: Tensor,
    rows: Tensor | None,
    passes: Passes,
    *,
    curvature: float,
    l2: float,
    intercept: bool,
    sample_weight: Tensor | None = None,
) -> Coordinates:
    """Return coordinates from the rows numbered `rows` [n] int64 of X [N, D], or from all; it waits for the device.

    A column that is constant in the sample is looked up in all rows that have a weight; if it is constant there too and
    has no penalty, its scale is 1. On a CPU the median is the centre of a column whose variance a few rows make.
    """
    moments = Moments.of(X, rows, passes)
    still = np.flatnonzero(moments.variance == 0)
    if rows is not None and len(still):
        counted = None if sample_weight is None else torch.nonzero(sample_weight > 0)[:, 0]
        everywhere = Moments.of(X[:, torch.from_numpy(still).to(X.device)], counted, passes)
        moments.mean[still], moments.variance[still] = everywhere.mean, everywhere.variance
    if X.dtype != torch.float64:
        # A pass in float32 subtracts the same centre as one in float64. The values of a column are float32 numbers
        # themselves, so that the nearest one to their mean is no more than a standard deviation away.
        with np.errstate(all="ignore"):
            mean = moments.mean.astype(np.float32).astype(np.float64)
        moments = Moments(moments.count, mean, moments.variance)
    coordinates = moments.coordinates(X.device, curvature=curvature, l2=l2, intercept=intercept)
    far, apart = _outlying(X, moments.variance)
    if intercept and len(far):
        columns = (X if rows is None else X[rows])[:, torch.from_numpy(far)]
        middle = coordinates.centers[far] = columns.double().median(dim=0).values.numpy()
        folded = not (np.abs(middle) > FOLDED_UP_TO * apart).any()
        coordinates = replace(coordinates, subtract=coordinates.subtract or not folded)
    return coordinates


def _outlying(X: Tensor, variance: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the numbers of the columns of X [N, D] whose variance [D] a few rows make, so that their mean is far from
    all others, and how far apart most of their values are; none on a GPU or in half precision.

    Such rows soon have no curvature. About the mean, all others are next to copies of the intercept: with a single row
    of 1e9 among 60 of 700 columns an l1 fit took 133 s and ended at a gap of 1e-3; about the median it takes 0.1 s.
    """
    if X.is_cuda or X.itemsize < 4:  # a GPU would wait for that as long as for a pass over a small table
        return np.empty(0, np.int64), np.empty(0)
    rows = np.arange(_GROUPS * _OF_GROUP) * len(X) // (_GROUPS * _OF_GROUP)
    groups = np.from_dlpack(X.detach())[rows].astype(np.float64).reshape(_GROUPS, _OF_GROUP, -1)
    with np.errstate(all="ignore"):
        apart = np.abs(np.diff(groups, axis=1)).max(axis=1)
        least = np.where(apart > 0, apart, np.inf).min(axis=0)
        far = np.flatnonzero(variance > np.square(_OUTLYING * least))
    return far, least[far]


@dataclass(frozen=True)
class Moments:
    """Mean and variance, [D] float64 each, of the columns over `count` rows; 0 is the variance of a constant column.

    They are on the host, where a few numbers cost less than a launch for each operation.
    """

    count: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, X: Tensor, rows: Tensor | None = None, passes: Passes = reference) -> Moments:
        """Return those of X [N, D], or of the rows numbered `rows` [n] int64, without a float64 copy of it.

        It waits for the device.

        Raises:
            ValueError: columns so far from 0 that their squares are beyond float64.
        """
        N = len(X) if rows is None else len(rows)
        found = passes.column_moments(X, rows)
        with np.errstate(all="ignore"):  # X may hold what is not finite
            total, squares = found[1:].reshape(2, -1, X.shape[1]).sum(axis=1)
            mean = total / N
            variance = squares / N - np.square(mean)
            known = np.isfinite(variance)
            if not known.all() and bool((X if rows is None else X[rows]).isfinite().all()):
                raise ValueError(
                    f"column {known.argmin()} of X has values beyond 1e150, whose squares a float64 cannot hold;"
                    " rescale the column"
                )
            # Below what rounding leaves, a column is constant; the first row being off by many sd costs that many
            # digits.
            return cls(N, found[0] + mean, np.where(variance > 1e-14 * squares / N, variance, 0.0))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a pickle, which before version 0.2 held tensors."""
        vars(self).update({name: each.numpy() if isinstance(each, Tensor) else each for name, each in state.items()})

    def joined(self, other: Moments) -> Moments:
        """Return those of the rows of both (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / count
        with np.errstate(over="ignore"):
            between = share * (1 - share) * np.square(apart)
        within = self.variance + share * (other.variance - self.variance)
        return Moments(count, self.mean + share * apart, within + between)

    def coordinates(self, device: torch.device, *, curvature: float, l2: float, intercept: bool) -> Coordinates:
        """Return the coordinates in which a loss of this curvature and this penalty have about unit curvature."""
        mean, variance = self.mean, self.variance
        center = mean if intercept else np.zeros_like(mean)
        with np.errstate(all="ignore"):
            of_loss = curvature * (variance if intercept else variance + np.square(mean))
            of_loss = np.where(of_loss < _LEAST_OF_LOSS, 0.0, of_loss)
            # The loss says nothing of a constant column beside an intercept, and any scale will do that no dtype
            # overflows.
            rest = max(l2, _LEAST_CURVATURE) if l2 > 0 else 1.0
            scale = 1 / np.sqrt(np.where(of_loss > 0, of_loss + l2, rest))
            spread = np.where(variance > 0, np.sqrt(variance), 1 / (scale * curvature**0.5))
            moving = np.where(of_loss > 0, scale, 0.0)
            farthest = (np.abs(center) / spread).max()
            sizes = float(moving.sum()), float(np.square(moving).sum())
            rounding = float(of_loss.sum())
        scales = np.append(scale, curvature**-0.5) if intercept else scale
        return Coordinates(device, center, scales, intercept, bool(farthest > FOLDED_UP_TO), rounding, sizes)


def uploaded(device: torch.device, *arrays: NDArray[np.float64]) -> list[Tensor]:
    """Return float64 arrays as tensors on a device, for one copy; each begins at a whole 16 bytes, as memory of its own
    does."""
    begins = np.cumsum([0, *(each.size + each.size % 2 for each in arrays)]).tolist()
    packed = np.empty(begins[-1])
    places = [slice(begin, begin + each.size) for begin, each in zip(begins, arrays, strict=False)]
    for place, each in zip(places, arrays, strict=True):
        packed[place] = each.reshape(-1)
    tensor = torch.from_numpy(packed).to(device, non_blocking=True)
    return [tensor[place].view(each.shape) for place, each in zip(places, arrays, strict=True)]
