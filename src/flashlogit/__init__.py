"""Logistic regression whose loss and gradient cost one read of X."""
