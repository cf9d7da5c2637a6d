"""Topics of Kafka, read in batches from stored offsets."""
