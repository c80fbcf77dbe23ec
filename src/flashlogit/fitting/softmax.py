"""The former place of `fit_softmax`."""

from .fit import fit_softmax as fit_softmax  # until merged
