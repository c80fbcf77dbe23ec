"""The state of K fits between their passes, and the launches that take it from one pass to the next."""
