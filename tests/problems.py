"""Small problems for the solvers, and their optima by an independent method."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import entr, expit
from torch import Tensor

from flashlogit import Fit, fit, fit_softmax, reference
from flashlogit.objectives.logistic import Logistic
from flashlogit.objectives.objective import Objective
from flashlogit.objectives.softmax import Softmax

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """X [N, D], y [N] in [0, 1], weights [N] or None, and the penalties."""

    X: Array
    y: Array
    s: Array | None = None
    l1: float = 0.0
    l2: float = 0.0
    intercept: bool = True

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor | None]:
        s = None if self.s is None else torch.from_numpy(self.s)
        return torch.from_numpy(self.X).to(dtype), torch.from_numpy(self.y), s

    @property
    def weights(self) -> Array:
        return np.ones(len(self.y)) if self.s is None else self.s

    def objective(self, w: Array, b: float) -> float:
        z = self.X @ w + b
        loss = self.weights @ (np.logaddexp(0, z) - self.y * z) / self.weights.sum()
        return float(loss + self.l1 * np.abs(w).sum() + 0.5 * self.l2 * w @ w)

    def dual(self, w: Array, b: float) -> float:
        """A lower bound of the least objective, from the residuals at (w, b) with the best intercept for w."""
        z = self.X @ w + b
        for _ in range(50 * self.intercept):
            p = expit(z)
            z = z - self.weights @ (p - self.y) / (self.weights @ (p * (1 - p)))
        u = expit(z) - self.y
        a = np.abs(self.X.T @ (self.weights * u)) / self.weights.sum()
        if self.l2 == 0:
            u = u * min(1.0, self.l1 / a.max())
        v = self.y + u
        bound = float(self.weights @ (entr(v) + entr(1 - v)) / self.weights.sum())
        return bound - (float(np.square(np.maximum(a - self.l1, 0)).sum() / (2 * self.l2)) if self.l2 else 0.0)

    @property
    def null_objective(self) -> float:
        p = self.weights @ self.y / self.weights.sum() if self.intercept else 0.5
        return float(entr(p) + entr(1 - p))

    def gradient(self, w: Array, b: float) -> tuple[Array, float]:
        """Of the loss alone."""
        r = self.weights * (expit(self.X @ w + b) - self.y) / self.weights.sum()
        return self.X.T @ r, float(r.sum())

    def optimum(self) -> float:
        """The least objective, by SciPy's L-BFGS-B on the positive and negative parts of the weights."""
        D = self.X.shape[1]
        centre = self.X.mean(axis=0) * self.intercept
        scale = self.X.std(axis=0) + np.abs(self.X.mean(axis=0) - centre)
        loss = replace(self, X=(self.X - centre) / scale, l1=0.0, l2=0.0)

        def both(v: Array) -> tuple[float, Array]:
            plus, minus, b = v[:D], v[D : 2 * D], v[-1] if self.intercept else 0.0
            w = plus - minus
            g, gb = loss.gradient(w, b)
            penalty = (self.l1 / scale) @ (plus + minus) + 0.5 * self.l2 * (w / scale) @ (w / scale)
            smooth = g + self.l2 * w / scale**2
            parts = [smooth + self.l1 / scale, -smooth + self.l1 / scale]
            return loss.objective(w, b) + penalty, np.concatenate([*parts, [gb]] if self.intercept else parts)

        bounds = [(0, None)] * (2 * D) + ([(None, None)] if self.intercept else [])
        start = np.zeros(2 * D + self.intercept)
        options = {"maxiter": 50_000, "maxfun": 100_000, "ftol": 0, "gtol": 1e-15, "maxcor": 50}
        for _ in range(3):
            found = minimize(both, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
            start = found.x
        return float(found.fun)


def copies(seed: int = 5, N: int = 400, D: int = 80, decades: float = 6, signs: tuple[int, ...] = (1,)) -> Problem:
    """Half of the columns are copies of the last one, in units over twice as many decades."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D))
    X[:, : D // 2] = X[:, [-1]] * rng.choice(signs, D // 2)
    z = X[:, -1] + X[:, -2]
    return Problem(X * 10 ** rng.uniform(-decades, decades, D), _labels(rng, z), l1=9e-6, l2=0.056)


def _labels(rng: np.random.Generator, z: Array) -> Array:
    return (rng.random(len(z)) < expit(z)).astype(np.float64)


def easy(seed: int = 0, N: int = 400, D: int = 6) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D))
    return Problem(X, _labels(rng, X @ rng.standard_normal(D) - 0.5), l2=0.01)


def ill_conditioned(seed: int = 1, N: int = 500, D: int = 8) -> Problem:
    """Singular values over three decades, means up to 30 standard deviations, large logits."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    X = rng.standard_normal((N, D)) * np.logspace(0, -3, D) @ basis
    z = X @ basis.T @ (3 * np.logspace(0, 2, D)) / 2
    return Problem(X + 30 * X.std(axis=0) * rng.standard_normal(D), _labels(rng, z), l2=1e-5)


def separable(seed: int = 2, N: int = 200, D: int = 5) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D))
    return Problem(X, (X @ rng.standard_normal(D) > 0.2).astype(np.float64), l2=1e-4)


def weighted(seed: int = 3) -> Problem:
    s = np.random.default_rng(seed).uniform(0, 3, 400)
    s[:20] = 0
    return replace(easy(seed), s=s)


def soft(seed: int = 4) -> Problem:
    problem = easy(seed)
    return replace(problem, y=np.clip(0.7 * problem.y + 0.3 * np.random.default_rng(seed).random(400), 0, 1))


ALL = {"easy": easy, "ill-conditioned": ill_conditioned, "separable": separable, "weighted": weighted, "soft": soft}
PENALTIES = {"l2": (0.0, 1.0), "l1": (1.0, 0.0), "both": (0.5, 0.5)}


def problem(name: str, penalty: str, intercept: bool) -> Problem:
    """A problem of `ALL` with its own amount of a penalty."""
    made = ALL[name]()
    l1, l2 = PENALTIES[penalty]
    return replace(made, l1=l1 * made.l2, l2=l2 * made.l2, intercept=intercept)


def fitted(X: Tensor, y: Tensor, classes: int = 2, **options: Any) -> Fit:
    """The fit of two classes, or of a softmax."""
    return fit(X, y, **options) if classes == 2 else fit_softmax(X, y, **options)


def objective_of(
    X: Tensor, y: Tensor, s: Tensor | None = None, classes: int = 2, *, intercept: bool = True, **penalties: float
) -> Objective:
    two = classes == 2
    loss = Logistic.of(y, s, reference, intercept=intercept) if two else Softmax.of(y, classes, s, intercept=intercept)
    return Objective.of(X, loss, **{"l1": 0.0, "l2": 0.0, **penalties})


def several(classes: int, far: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """400 rows of 5 columns in several units, one of them perhaps so far from 0 that it is centred; class numbers, and
    weights, some of them 0."""
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(400, 5, generator=generator, dtype=torch.float64) * torch.tensor([1, 30, 0.01, 1, 2.0])
    y = torch.randint(classes, (400,), generator=generator)
    s = torch.rand(400, generator=generator, dtype=torch.float64)
    s[::9] = 0
    X[:, 0] += 0.7 * y
    return X + torch.tensor([0, 500.0 if far else 1.0, 0.01, 0, 0]), y, s


def alike(classes: int) -> tuple[Tensor, Tensor]:
    """600 rows of 12 columns that are much alike, so that no solver is done at once, and class numbers."""
    generator = torch.Generator().manual_seed(classes)
    X = torch.randn(600, 12, generator=generator, dtype=torch.float64)
    X[:, 1:] = X[:, :1] + 0.3 * X[:, 1:]
    z = X @ torch.randn(12, classes, generator=generator, dtype=torch.float64)
    gumbel = -torch.rand(z.shape, generator=generator, dtype=torch.float64).log().neg().log()
    return X, (z + 2 * gumbel).argmax(dim=1)
