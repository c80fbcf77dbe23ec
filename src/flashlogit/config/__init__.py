"""A YAML file as settings, and what is wrong with it."""
