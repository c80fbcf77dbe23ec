"""The loss and the head as PyTorch's users know them."""
