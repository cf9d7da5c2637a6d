"""The step dataset: examples with label, split and fold."""
