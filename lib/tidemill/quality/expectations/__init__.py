"""Expectations: rules of rows and tables, violations, quarantine."""
