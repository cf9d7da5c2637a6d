"""The projection of the registry into MLflow; the lake stays the truth."""
