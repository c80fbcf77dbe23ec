"""The certificate bounds the true gap, at every iterate, and goes to 0 with it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from flashlogit.fitting.fit import fit
from flashlogit.objectives.certificate import FARTHEST_SHIFT, Certificate, penalty_gap, shrunk_divergence
from flashlogit.objectives.objective import Objective


def certify(objective: Objective, theta: Tensor) -> Certificate:
    return objective.certify(objective.evaluate(theta, certified=True))


def objective_of(problem: problems.Problem, dtype: torch.dtype = torch.float64) -> Objective:
    options = {"l1": problem.l1, "l2": problem.l2, "intercept": problem.intercept}
    return problems.objective_of(*problem.tensors(dtype), **options)


@pytest.mark.parametrize(
    ("name", "penalty", "intercept"),
    [
        ("easy", "l1", False),
        ("ill-conditioned", "l2", False),
        ("ill-conditioned", "both", True),
        ("separable", "l2", True),
        ("weighted", "l1", True),
        ("soft", "both", True),
    ],
)
def test_it_bounds_the_true_gap_at_every_iterate_of_every_solver(name: str, penalty: str, intercept: bool) -> None:
    problem = problems.problem(name, penalty, intercept)
    X, y, s = problem.tensors()
    objective = objective_of(problem)
    best = problem.optimum()
    options = {"sample_weight": s, "l1": problem.l1, "l2": problem.l2, "intercept": intercept, "tolerance": 1e-9}
    for solver in ("newton", "lbfgs", "newton-cg")[: 3 if penalty == "l2" else 2]:  # newton-cg takes no l1
        points: list[tuple[Tensor, Tensor]] = []
        # Twenty pairs are too little curvature for the worst conditioned: it is to end honestly, no more.
        slow = solver == "lbfgs" and penalty != "l2" and name == "ill-conditioned"
        options |= {"solver": solver, "max_iterations": 10 if slow else 500}
        result = fit(X, y, on_point=lambda row, point, points=points: points.append(point()), **options)
        assert result.converged == (result.relative_gap <= 1e-9) == (not slow)
        assert not slow or "stopped at the limit of 10 iterations" in result.notes[0]
        assert result.certificate.null_objective == pytest.approx(problem.null_objective, rel=1e-14)
        best = min(best, result.objective)
        for weight, bias in points[-10:]:
            certificate = certify(objective, objective.from_user(weight[:, None], bias))
            value = problem.objective(weight.numpy(), float(bias))
            assert certificate.objective == pytest.approx(value, rel=1e-12)
            assert certificate.gap >= value - best - 1e-15
        assert result.objective == pytest.approx(value, rel=1e-12)
        assert result.gap == pytest.approx(certificate.gap, rel=1e-3, abs=1e-15)
    # Random parameters, far from the optimum: the bound may be loose, never wrong.
    for size in (0.0, 0.3, 3.0, 30.0):
        theta = size * torch.randn((objective.parameters, 1), dtype=torch.float64)
        w, b = objective.to_user(theta)
        assert certify(objective, theta).gap >= problem.objective(w[:, 0].numpy(), float(b)) - best - 1e-15


def test_the_penalty_gap_is_fenchels() -> None:
    """w a + pen(w) + pen*(-a), with the conjugate by its definition over a fine grid."""
    grid = torch.linspace(-60, 60, 6_001, dtype=torch.float64)[:, None]
    w, a, l1, l2 = torch.cartesian_prod(
        torch.tensor([-2.0, -0.1, 0.0, 0.5, 3.0]),
        torch.tensor([-1.5, -1.0, -0.2, 0.0, 0.3, 1.2]),
        torch.tensor([0.0, 0.3, 1.0]),
        torch.tensor([0.1, 1.0]),
    ).T.double()
    conjugate = (-a * grid - l1 * grid.abs() - 0.5 * l2 * grid.square()).amax(dim=0)
    given = penalty_gap(w, a, l1, l2)
    torch.testing.assert_close(given, w * a + l1 * w.abs() + 0.5 * l2 * w * w + conjugate, rtol=0, atol=1e-4)
    assert (given >= 0).all()
    w, a, l1 = torch.tensor([1.0, 1.0]), torch.tensor([-0.5, -2.0]), torch.ones(2)
    assert penalty_gap(w, a, l1, torch.zeros(2)).tolist() == [0.5, math.inf]


@pytest.mark.parametrize("label", [0.0, 0.3, 1.0])
def test_the_divergence_of_shrunk_rows(label: float) -> None:
    z = torch.linspace(-45, 45, 181, dtype=torch.float64)
    y = torch.full_like(z, label)
    p, off = (1 / (1 + np.exp(sign * z.numpy().astype(np.longdouble))) for sign in (-1, 1))
    r = (1 - label) * p - label * off
    for tau in (0.0, 0.5, 0.99, 1 - 1e-9, 1.0):
        for shift in (0.0, 1e-9, 1e-3, 0.3, FARTHEST_SHIFT, -FARTHEST_SHIFT):
            given = shrunk_divergence(z, y, tau, shift).numpy()
            q = (1 - np.longdouble(tau)) * r + np.longdouble(tau) * shift * p * off
            v, rest = p - q, off + q
            with np.errstate(divide="ignore", invalid="ignore"):
                wanted = np.where(v > 0, v * np.log(v / p), 0) + np.where(rest > 0, rest * np.log(rest / off), 0)
            # Long doubles lose the first-order terms' last digits themselves.
            assert np.allclose(given, wanted.astype(np.float64), rtol=1e-6, atol=1e-18)
            assert (given >= 0).all()
            if tau == 1:  # what the certificate counts for corrected residuals, which are within bounds
                assert ((v >= 0) & (v <= 1)).all()
                assert (given <= shift**2 * p * off * (1 + 1e-12)).all()
                assert (given >= 0.3 * shift**2 * p * off - 1e-18).all()


def test_an_intercept_that_is_far_off_leaves_the_trivial_bound() -> None:
    objective = objective_of(problems.problem("easy", "l2", True))
    best = fit(objective.X, objective.loss.y, l2=objective.l2, tolerance=1e-9)
    theta, shares = objective.from_user(best.weight[:, None], best.bias), []
    for further in (0.0, 0.05, 5.0, 500.0):
        theta[-1] += further
        certificate = certify(objective, theta)
        shares.append(certificate.gap / certificate.objective)
    assert 0 < shares[0] < shares[1] < 1
    assert shares[2:] == [1, 1]


def test_a_float32_table_has_the_certificate_of_its_float64_copy() -> None:
    narrow = objective_of(problems.problem("easy", "l2", True), torch.float32)
    wide = replace(narrow, design=replace(narrow.design, X=narrow.X.double()))
    theta = 0.1 * torch.ones((narrow.parameters, 1), dtype=torch.float64)
    assert certify(narrow, theta).gap == pytest.approx(certify(wide, theta).gap, rel=1e-10)
