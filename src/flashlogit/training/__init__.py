"""Training by mini-batches."""
