"""Profiles of tables, references between them, and suggested expectations."""
