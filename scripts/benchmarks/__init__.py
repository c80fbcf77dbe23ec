"""What `scripts/benchmark.py device` is made of; no part of what is installed."""
