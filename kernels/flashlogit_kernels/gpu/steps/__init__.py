"""What happens between the passes of a fit: kernels, and their state and launches."""
