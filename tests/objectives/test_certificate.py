"""The certificate bounds the true gap, at every iterate, and goes to 0 with it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from flashlogit import reference
from flashlogit.fitting.fit import fit
from flashlogit.objectives.certificate import FARTHEST_SHIFT, Certificate, penalty_gap, shrunk_divergence
from flashlogit.objectives.logistic import Logistic
from flashlogit.objectives.objective import Objective

SOLVERS = ("newton", "lbfgs", "newton-cg")
CASES = [(name, penalty, True) for name in problems.ALL for penalty in problems.PENALTIES] + [
    (name, penalty, False) for name in ("easy", "ill-conditioned") for penalty in problems.PENALTIES
]


def objective_of(problem: problems.Problem, dtype: torch.dtype = torch.float64) -> Objective:
    X, y, s = problem.tensors(dtype)
    loss = Logistic.of(y, s, reference, intercept=problem.intercept)
    return Objective.of(X, loss, l1=problem.l1, l2=problem.l2)


def certify(objective: Objective, theta: Tensor) -> Certificate:
    return objective.certify(objective.evaluate(theta, certified=True))


@pytest.mark.parametrize(("name", "penalty", "intercept"), CASES)
def test_it_bounds_the_true_gap_at_every_iterate_of_every_solver(name: str, penalty: str, intercept: bool) -> None:
    problem = problems.problem(name, penalty, intercept)
    X, y, s = problem.tensors()
    objective = objective_of(problem)
    best = problem.optimum()
    for solver in SOLVERS[: 3 if penalty == "l2" else 2]:  # newton-cg takes no l1
        points: list[tuple[Tensor, Tensor]] = []
        # Twenty pairs are too little curvature for the worst conditioned: it is to end honestly, no more.
        slow = solver == "lbfgs" and penalty != "l2" and name == "ill-conditioned"
        result = fit(
            X, y, sample_weight=s, l1=problem.l1, l2=problem.l2, intercept=intercept, solver=solver, tolerance=1e-9,
            max_iterations=25 if slow else 500, on_point=lambda row, point, points=points: points.append(point()),
        )  # fmt: skip
        assert result.converged == (result.relative_gap <= 1e-9)
        assert result.converged != slow
        assert not slow or "stopped at the limit of 25 iterations" in result.notes[0]
        assert result.certificate.null_objective == pytest.approx(problem.null_objective, rel=1e-14)
        best = min(best, result.objective)
        for weight, bias in points[-10:]:
            certificate = certify(objective, objective.from_user(weight[:, None], bias))
            value = problem.objective(weight.numpy(), float(bias))
            assert certificate.objective == pytest.approx(value, rel=1e-12)
            assert certificate.gap >= value - best - 1e-15
        assert result.objective == pytest.approx(value, rel=1e-12)
        assert result.gap == pytest.approx(certificate.gap, rel=1e-3, abs=1e-15)


def test_any_feasible_point_is_bounded() -> None:
    """Random parameters, far from the optimum: the bound may be loose, never wrong."""
    generator = torch.Generator().manual_seed(5)
    for name in problems.ALL:
        for penalty in problems.PENALTIES:
            problem = problems.problem(name, penalty, True)
            objective = objective_of(problem)
            best = problem.optimum()
            for size in (0.0, 0.3, 3.0, 30.0):
                theta = size * torch.randn((objective.parameters, 1), generator=generator, dtype=torch.float64)
                certificate = certify(objective, theta)
                w, b = objective.to_user(theta)
                true = problem.objective(w[:, 0].numpy(), float(b)) - best
                assert certificate.gap >= true - 1e-15
                assert certificate.gap >= 0


def test_the_penalty_gap_is_fenchels() -> None:
    """w a + pen(w) + pen*(-a), with the conjugate by its definition over a fine grid."""
    grid = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    for l1 in (0.0, 0.3, 1.0):
        for l2 in (0.1, 1.0):
            for w in (-2.0, -0.1, 0.0, 0.5, 3.0):
                for a in (-1.5, -1.0, -0.2, 0.0, 0.3, 1.2):
                    conjugate = float((-a * grid - l1 * grid.abs() - 0.5 * l2 * grid.square()).max())
                    wanted = w * a + l1 * abs(w) + 0.5 * l2 * w * w + conjugate
                    given = penalty_gap(*(torch.tensor([v], dtype=torch.float64) for v in (w, a, l1, l2)))
                    assert float(given) == pytest.approx(wanted, abs=1e-6)
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
        certificate = certify(objective, theta)
        assert 0 < certificate.gap <= certificate.objective
        gaps.append(certificate.gap / certificate.objective)
    assert gaps[:2] == sorted(gaps[:2])
    assert gaps[2:] == [1, 1]


def test_a_float32_table_has_the_certificate_of_its_float64_copy() -> None:
    problem = problems.problem("easy", "l2", True)
    narrow = objective_of(problem, torch.float32)
    wide = replace(narrow, design=replace(narrow.design, X=narrow.X.double()))
    theta = 0.1 * torch.ones((narrow.parameters, 1), dtype=torch.float64)
    one, other = certify(narrow, theta), certify(wide, theta)
    assert one.gap == pytest.approx(other.gap, rel=1e-10)
    assert "within" in one.sentence()
