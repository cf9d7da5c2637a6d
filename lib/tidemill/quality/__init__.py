"""Rules for the rows of a table: which rows break which, and what becomes of those."""
