"""One reader a kind of source: files → a DataFrame in which every physical record has a row, good or refused."""

from tidemill.sources.files.listing import Listing, SourceFile, list_files, listing

__all__ = ["Listing", "SourceFile", "list_files", "listing"]
