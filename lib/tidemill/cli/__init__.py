"""The command line: one command a thing a person wants to do; exit codes 0 done, 1 failed, 2 wrong command or spec, 3 a rule said no."""

from tidemill.cli.app import main

__all__ = ["main"]
