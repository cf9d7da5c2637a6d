"""File sources: listing, decoding, and one reader per format."""
