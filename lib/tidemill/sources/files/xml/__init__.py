"""XML files: one record per element of the row tag."""
