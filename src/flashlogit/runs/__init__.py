"""Runs of the command line: a run's directory, training, prediction and evaluation of files."""
