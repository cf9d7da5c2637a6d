"""Blends and stacks of trials."""
