"""Many models side by side, for one pass over X a step of all of them."""
