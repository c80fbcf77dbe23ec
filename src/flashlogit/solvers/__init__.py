"""Solvers that promise the optimum of the unclamped objective, and what stands in their way."""
