"""Checks of a spec beyond the types of its keys; every error is reported with its place."""
