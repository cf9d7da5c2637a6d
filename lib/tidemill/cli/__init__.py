"""The command line: one module per group of commands; exit codes 0 done, 1 failed, 2 wrong command or spec, 3 a rule said no."""

from tidemill.cli.app import main

__all__ = ["main"]
