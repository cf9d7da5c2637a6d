"""One reader a kind of source: files → a DataFrame in which every physical record has a row, good or refused."""

from tidemill.sources.files import SourceFile, list_files

__all__ = ["SourceFile", "list_files"]
