"""The projection of the registry into MLflow; the lake is the source of truth."""
