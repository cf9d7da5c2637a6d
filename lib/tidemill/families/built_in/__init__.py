"""The built-in families: every module here lists its own in `FAMILIES`, and is found by being here."""
