"""Options that several commands share, and how they are resolved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tidemill.errors import UsageError
from tidemill.lake import Lake
from tidemill.pipeline import Pipeline
from tidemill.spec import Spec, load_spec
from tidemill.spec.loading.paths import find_project_root, resolve_lake

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The pipeline's YAML file, or its folder.", show_default=False)]
Env = Annotated[str | None, typer.Option("--env", help="Overlay: env/E.yml beside the spec, then conf/env/E.yml.", show_default=False)]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Set a key of the spec: a.b=c; vars.NAME=… sets a variable.", show_default=False)
]
SafeCsv = Annotated[
    bool, typer.Option("--safe-csv", help="CSV for spreadsheets: an apostrophe before texts that begin with = + - @, tab or CR.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show stack traces.")]
LakeRoot = Annotated[
    str | None, typer.Option("--lake", help="The lake; by default TIDEMILL_LAKE, else ./lake of the project.", show_default=False)
]


def load_spec_option(path: Path, env: str | None, assignments: Sequence[str] | None) -> Spec:
    """Load the spec with its overlay and the ``--set`` options.

    Raises:
        SpecError: the spec has faults.
        UsageError: a ``--set`` is not ``key=value``.
    """
    values = {}
    for assignment in assignments or ():
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {assignment}: expected a.b=c, such as --set training.folds=5")
        values[key.strip()] = value
    return load_spec(path, env=env, set_values=values)


def load_pipeline(path: Path, env: str | None, assignments: Sequence[str] | None) -> Pipeline:
    """Return the pipeline of a spec with its overlay and the ``--set`` options; see `load_spec_option`."""
    return Pipeline(load_spec_option(path, env, assignments))


def open_lake(root: str | None, *, must_exist: bool = True) -> Lake:
    """Return the lake that ``--lake`` names, relative to the working directory, or ``TIDEMILL_LAKE`` or ``./lake``, to its project's root.

    Raises:
        UsageError: there is nothing at a local path.
    """
    chosen = root or resolve_lake(os.environ.get("TIDEMILL_LAKE") or "./lake", find_project_root(Path.cwd()))
    lake = Lake(chosen)
    if must_exist and "://" not in chosen and not Path(lake.root).is_dir():
        raise UsageError(f"there is no lake at {lake.root}; name one with --lake or TIDEMILL_LAKE, or make it with `tidemill run SPEC`")
    return lake
