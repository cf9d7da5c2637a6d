"""The step score, and rows that enter behind it: `tidemill score --input`."""
