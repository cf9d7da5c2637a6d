"""From the rows of the dataset SQL to examples: point-in-time joins, split, fold.

A DataFrame enters and a DataFrame with more columns leaves; nothing is read, written or cached here.
"""
