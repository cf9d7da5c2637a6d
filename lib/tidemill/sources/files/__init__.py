"""Files as sources: finding them, decoding them, and one reader per format."""
