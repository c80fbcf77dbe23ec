"""The gradient by hand, by autograd, by differences and by the kernel, compared."""
