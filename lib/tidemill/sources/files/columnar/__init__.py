"""Files that carry their own types: Parquet, ORC, Avro."""
