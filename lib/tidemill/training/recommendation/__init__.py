"""The task recommendation: ids as numbers, ALS over the folds, and what it recommends."""
