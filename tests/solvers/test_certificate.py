"""The certificate bounds the true gap, at every iterate, and goes to 0 with it."""

from __future__ import annotations

import math

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from flashlogit import reference
from flashlogit.fitting.fit import fit
from flashlogit.objectives.certificate import FARTHEST_SHIFT, penalty_gap, shrunk_divergence
from flashlogit.objectives.logistic import ConvexObjective

SOLVERS = ("newton", "lbfgs", "newton-cg")


def objective_of(problem: problems.Problem, dtype: torch.dtype = torch.float64) -> ConvexObjective:
    X, y, s = problem.tensors(dtype)
    return ConvexObjective(X, y, s, reference, l1=problem.l1, l2=problem.l2, intercept=problem.intercept)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("penalty", problems.PENALTIES)
@pytest.mark.parametrize("name", problems.ALL)
def test_it_bounds_the_true_gap_at_every_iterate(name: str, penalty: str, intercept: bool) -> None:
    problem = problems.problem(name, penalty, intercept)
    solver = "lbfgs" if penalty != "l2" else "newton-cg"  # the slow ones, which have many iterates
    points: list[tuple[Tensor, Tensor]] = []
    X, y, s = problem.tensors()
    last = fit(
        X, y, sample_weight=s, l1=problem.l1, l2=problem.l2, intercept=intercept, solver=solver, tolerance=1e-9,
        max_iterations=60, on_point=lambda row, parameters: points.append(parameters()),
    )  # fmt: skip
    best = min(problem.optimum(), last.objective)
    objective = objective_of(problem)
    gaps = []
    for weight, bias in points:
        theta = objective.coordinates.from_user(weight[:, None], bias)
        certificate = objective.certify(theta)
        value = problem.objective(weight.numpy(), float(bias))
        assert certificate.objective == pytest.approx(value, rel=1e-12)
        assert certificate.gap >= value - best - 1e-15
        gaps.append(certificate.gap)
    assert len(gaps) > 2
    assert last.gap >= last.objective - best
    if last.converged:
        assert gaps[-1] <= 1.01e-9 * problem.null_objective


@pytest.mark.parametrize(
    ("penalty", "solver"),
    [
        (p, s) for p in problems.PENALTIES for s in SOLVERS if p == "l2" or s != "newton-cg"
    ],  # which takes no l1
)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", problems.ALL)
def test_solvers_reach_a_small_gap(name: str, penalty: str, intercept: bool, solver: str) -> None:
    problem = problems.problem(name, penalty, intercept)
    X, y, s = problem.tensors()
    # Twenty pairs are too little curvature there, so that `auto` takes newton: it is to end honestly, no more.
    slow = solver == "lbfgs" and penalty != "l2" and name == "ill-conditioned"
    tolerance = 1e-9
    result = fit(
        X, y, sample_weight=s, l1=problem.l1, l2=problem.l2, intercept=intercept, solver=solver, tolerance=tolerance,
        max_iterations=500 if slow else 3000,
    )  # fmt: skip
    assert result.converged == (result.relative_gap <= tolerance)
    assert result.converged or (slow and "stopped at the limit of 500 iterations" in result.notes[0])
    best = problem.optimum()
    value = problem.objective(result.weight.numpy(), float(result.bias))
    assert value == pytest.approx(result.objective, rel=1e-12)
    assert value - best <= result.gap + 1e-14
    assert result.certificate.null_objective == pytest.approx(problem.null_objective, rel=1e-14)


def test_any_feasible_point_is_bounded() -> None:
    """Random parameters, far from the optimum: the bound may be loose, never wrong."""
    generator = torch.Generator().manual_seed(5)
    for name in problems.ALL:
        for penalty in problems.PENALTIES:
            problem = problems.problem(name, penalty, True)
            objective = objective_of(problem)
            best = problem.optimum()
            for size in (0.0, 0.3, 3.0, 30.0):
                theta = size * torch.randn(
                    (objective.parameters, 1), generator=generator, dtype=torch.float64
                )
                certificate = objective.certify(theta)
                w, b = objective.coordinates.to_user(theta)
                true = problem.objective(w[:, 0].numpy(), float(b)) - best
                assert certificate.gap >= true - 1e-15
                assert certificate.gap >= 0


def test_the_penalty_gap_is_fenchels() -> None:
    """w a + pen(w) + pen*(-a), with the conjugate by its definition over a fine grid."""
    grid = torch.linspace(-60, 60, 1_200_001, dtype=torch.float64)
    for l1 in (0.0, 0.3, 1.0):
        for l2 in (0.1, 1.0):
            for w in (-2.0, -0.1, 0.0, 0.5, 3.0):
                for a in (-1.5, -1.0, -0.2, 0.0, 0.3, 1.2):
                    conjugate = float((-a * grid - l1 * grid.abs() - 0.5 * l2 * grid.square()).max())
                    wanted = w * a + l1 * abs(w) + 0.5 * l2 * w * w + conjugate
                    given = penalty_gap(*(torch.tensor([v], dtype=torch.float64) for v in (w, a, l1, l2)))
                    assert float(given) == pytest.approx(wanted, abs=1e-8)
                    assert float(given) >= 0
    no_l2 = penalty_gap(*(torch.tensor([v], dtype=torch.float64) for v in (1.0, -0.5, 1.0, 0.0)))
    assert float(no_l2) == 0.5
    beyond = penalty_gap(*(torch.tensor([v], dtype=torch.float64) for v in (1.0, -2.0, 1.0, 0.0)))
    assert math.isinf(float(beyond))


@pytest.mark.parametrize("shift", [0.0, 1e-9, 0.3, -0.5])
@pytest.mark.parametrize("tau", [0.0, 0.5, 0.99, 1 - 1e-9, 1.0])
def test_the_divergence_of_shrunk_rows(tau: float, shift: float) -> None:
    z = torch.tensor([-40.0, -20.0, -3.0, 0.0, 2.0, 15.0, 35.0], dtype=torch.float64)
    for label in (0.0, 0.3, 1.0):
        y = torch.full_like(z, label)
        given = shrunk_divergence(z, y, tau, shift).numpy()
        p = 1 / (1 + np.exp(-z.numpy().astype(np.longdouble)))
        off = 1 / (1 + np.exp(z.numpy().astype(np.longdouble)))
        r = (1 - label) * p - label * off
        q = (1 - np.longdouble(tau)) * r + np.longdouble(tau) * shift * p * off
        v, rest = p - q, off + q
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where(v > 0, v * np.log(v / p), 0) + np.where(rest > 0, rest * np.log(rest / off), 0)
        # Long doubles lose the first-order terms' last digits themselves.
        assert np.allclose(given, wanted.astype(np.float64), rtol=1e-6, atol=1e-18)
        assert (given >= 0).all()


@pytest.mark.parametrize("shift", [FARTHEST_SHIFT, -FARTHEST_SHIFT, 1e-3])
def test_corrected_residuals_are_within_bounds_and_cost_what_is_counted(shift: float) -> None:
    z = torch.linspace(-45, 45, 181, dtype=torch.float64)
    p, h = torch.sigmoid(z), torch.sigmoid(z) * torch.sigmoid(-z)
    corrected = p - shift * h
    assert (corrected >= 0).all()
    assert (corrected <= 1).all()
    for label in (0.0, 0.3, 1.0):
        divergence = shrunk_divergence(z, torch.full_like(z, label), 1.0, shift)
        assert (divergence <= shift**2 * h * (1 + 1e-12)).all()
        assert (divergence >= 0.3 * shift**2 * h).all()


def test_an_intercept_that_is_far_off_leaves_the_trivial_bound() -> None:
    objective = objective_of(problems.problem("easy", "l2", True))
    theta = torch.zeros((objective.parameters, 1), dtype=torch.float64)
    gaps = []
    for intercept in (0.0, 0.05, 5.0, 500.0):
        theta[-1] = objective.null_theta()[-1] + intercept
        certificate = objective.certify(theta)
        assert 0 < certificate.gap <= certificate.objective
        gaps.append(certificate.gap / certificate.objective)
    assert gaps[:2] == sorted(gaps[:2])
    assert gaps[2:] == [1, 1]


def test_a_float32_table_has_the_certificate_of_its_float64_copy() -> None:
    problem = problems.problem("easy", "l2", True)
    narrow = objective_of(problem, torch.float32)
    wide = ConvexObjective(
        narrow.X.double(), narrow.y, None, reference, l1=0.0, l2=problem.l2, intercept=True,
        coordinates=narrow.coordinates,
    )  # fmt: skip
    theta = 0.1 * torch.ones((narrow.parameters, 1), dtype=torch.float64)
    one, other = narrow.certify(theta), wide.certify(theta)
    assert one.gap == pytest.approx(other.gap, rel=1e-10)
    assert "within" in one.sentence()
