"""Readers of raw sources.

In: the declaration of a source, its files or the position of its last batch. Out: a DataFrame with one row per physical record, valid or
rejected (``records.Records``). Parsing may change inside; which records are accepted may not.
"""

from tidemill.sources.files.listing import Listing, SourceFile, find_files, list_files

__all__ = ["Listing", "SourceFile", "find_files", "list_files"]
