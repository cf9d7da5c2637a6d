"""Drift of columns after deployment.

In: DataFrames of reference and scored rows. Out: distances and levels of each column.
Plans and bins may change within the documented method. Nothing here reads a table, writes one or logs.
"""
