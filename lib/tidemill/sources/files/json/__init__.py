"""JSON files: lines or documents."""
