"""The step train: a search, the refit of its choice, and a new model version."""
