"""The step ingest: raw records into bronze, each accounted for."""
