"""CSV and TSV files: every physical record becomes a row or is quarantined."""
