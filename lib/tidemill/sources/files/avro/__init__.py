"""Avro container files, read block by block."""
