"""The step monitor: drift of the rows that were scored since the last monitor."""
