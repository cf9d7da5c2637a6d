"""The ``tidemill`` command and what all its subcommands share."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.text import Text
from typer.exceptions import TyperException

from tidemill.cli import lifecycle, maintenance, pipeline, profiling, quarantine, queries, reproduce, scaffold
from tidemill.cli.printing import warn
from tidemill.errors import SpecError, StepError, TidemillError
from tidemill.redaction import redact, redact_trace
from tidemill.runtime.terminal import configure_logging, escape_controls_in_lines
from tidemill.runtime.user_code import describe_exit
from tidemill.version import VERSION
from tidemill.workflow.error_messages import format_error

app = typer.Typer(
    name="tidemill",
    help="Production machine learning on Spark, Delta Lake and MLlib, from one declared pipeline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (pipeline, queries, lifecycle, profiling, quarantine, maintenance, reproduce, scaffold):
    module.add_commands(app)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True),
    log_level: str = typer.Option(
        "",
        "--log-level",
        metavar="LEVEL",
        help="Show log records from debug, info, warning or error on; every command takes it.",
        show_default=False,
    ),
) -> None:
    if version:
        sys.stdout.write(f"tidemill {VERSION}\n")
        raise typer.Exit


def _take_log_level(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the arguments without ``--log-level LEVEL``, which may come before or after the command, and the level."""
    words: list[str] = []
    level = None
    remaining = iter(arguments)
    for word in remaining:
        if word == "--":
            return [*words, word, *remaining], level
        if word == "--log-level":
            level = next(remaining, "")
        elif word.startswith("--log-level="):
            level = word.partition("=")[2]
        else:
            words.append(word)
    return words, level


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error is reported as a message on standard error."""
    words, level = _take_log_level(sys.argv[1:] if arguments is None else arguments)
    try:
        configure_logging(level)
        ended = app(words, prog_name="tidemill", standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        usage = "" if message.startswith("Usage:") else f"\ntry: tidemill {'' if 'No such command' in message else f'{words[0]} '}--help"
        warn(f"{message}{usage}\n")
        return 2
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return 1
    except SystemExit as error:  # commands return; user code that they load may call sys.exit
        _tell(StepError(f"user code {describe_exit(error)}"))
        return 1
    except BrokenPipeError:
        return 1
    except BaseException as error:  # delta-rs raises panics, which are no Exception
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if "--debug" in words:
            sys.stderr.write(escape_controls_in_lines(redact_trace(error)))
        else:
            _tell(error)
        return getattr(error, "exit_code", 1)
    return ended if isinstance(ended, int) else 0


def _tell(error: BaseException) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if isinstance(error, SpecError):
        count = len(error.faults)
        console.print(Text(f"the spec has {count} fault{'s' if count > 1 else ''}:", style="bold red"))
        for fault in error.faults:
            console.print(Text(escape_controls_in_lines(f"  {redact(str(fault))}")))
        return
    label = "error" if isinstance(error, TidemillError) else "unexpected error (--debug shows where)"
    console.print(Text(f"{label}: ", style="bold red") + Text(escape_controls_in_lines(format_error(error))))
