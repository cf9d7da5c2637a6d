"""Blends and fit_stacks of trials."""
