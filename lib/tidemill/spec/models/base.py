"""What every block of a spec is made of: the base model, the kinds of names, and the words that are known."""

from __future__ import annotations

from tidemill.options import Block, ColumnName, DottedName, Duration, Name, Scalar, Share, Span, TableName, microseconds, seconds

__all__ = ["Block", "ColumnName", "DottedName", "Duration", "Name", "Scalar", "Share", "Span", "TableName", "microseconds", "seconds"]
