"""Expectations, profiles and references of tables.

In: DataFrames, and expectations of a spec. Out: DataFrames with the broken rules of each row, counts, messages, profiles.
Plans may change; which rows break a rule may not. Nothing here reads a table, writes one or logs.
"""
