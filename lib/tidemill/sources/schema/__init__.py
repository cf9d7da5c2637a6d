"""Schemas of sources: declared, inferred, pinned, and changed by policy."""
