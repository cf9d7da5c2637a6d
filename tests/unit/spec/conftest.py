from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import settings

from tidemill.errors import SpecError
from tidemill.spec import load_spec

# Other work on the same cores must not fail a test, and one run must find what the next one finds.
settings.register_profile("tidemill", deadline=None, derandomize=True, database=None)
settings.load_profile("tidemill")

GOOD = """\
pipeline: flights
lake: ./lake
sources:
  flights:
    format: csv
    path: ${DATA:-./data}/*.csv
    options: {header: true}
    load: incremental
tables:
  flights:
    sql: SELECT * FROM bronze.flights
    key: [flight_id]
    expectations:
      far: {check: distance > 0, on_violation: drop}
dataset:
  sql: SELECT * FROM silver.flights
  key: [flight_id]
  label: is_late
  event_time: scheduled_at
  split: {by: time, test: "2013-11-01"}
  exclude: [arr_time]
features:
  numeric: {columns: [distance]}
training:
  task: binary
  metric: areaUnderPR
  models:
    random_forest: {numTrees: {int: [20, 100]}, maxDepth: [4, 8]}
monitoring:
  drift: {warn: 0.1}
"""

Lines = list[tuple[int | None, str, str]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a spec (and give its path)."""

    def write(text: str, name: str = "pipeline.yml") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        return file

    return write


@pytest.fixture
def faults(write: Callable[..., Path]) -> Callable[..., Lines]:
    """Load a text that is wrong and return (line, key, message) of each fault."""

    def faults(text: str, *, environ: Mapping[str, str] | None = None, **options: object) -> Lines:
        file = write(text)
        with pytest.raises(SpecError) as caught:
            load_spec(file, environ=environ or {}, **options)  # type: ignore[arg-type]
        assert caught.value.exit_code == 2
        return [(fault.line, fault.key, fault.message) for fault in caught.value.faults]

    return faults


@pytest.fixture
def changed() -> Callable[..., str]:
    """Return the good spec with lines replaced: ``changed("task: binary", "task: binry")``."""

    def changed(*pairs: str) -> str:
        text = GOOD
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the good spec"
            text = text.replace(old, new)
        return text

    return changed
