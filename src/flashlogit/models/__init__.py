"""What is saved of a fit."""
