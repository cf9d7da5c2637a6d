"""The step prepare: SQL or Python tables into silver, with expectations."""
