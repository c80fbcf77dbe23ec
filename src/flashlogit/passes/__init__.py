"""Which implementation computes a pass over X."""
