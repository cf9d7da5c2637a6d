"""The lake: names, tables at versions, commits, and the ledger of what happened."""

from tidemill.lake.ledger import Ledger
from tidemill.lake.sql import table_names
from tidemill.lake.tables import Lake

__all__ = ["Lake", "Ledger", "table_names"]
