"""A table's columns as features, label and weights."""
