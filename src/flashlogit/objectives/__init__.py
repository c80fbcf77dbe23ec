"""The objective: losses of rows, penalties, coordinates, certificate."""
