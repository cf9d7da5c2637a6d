"""Model families: one module per kind; the registry finds them by name."""
