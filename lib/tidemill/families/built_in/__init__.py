"""The built-in families: every module of this package is imported, and lists its families in `FAMILIES`."""
