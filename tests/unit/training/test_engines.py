"""Engines by name, and what is said of a custom engine that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidemill.errors import SpecError, StepError, TidemillError
from tidemill.families import Engine
from tidemill.families.engines import _accept
from tidemill.training.engines.choice import Resources, choose_engines

RESOURCES = Resources(scratch="", rows=10, columns=1, most_bytes=1 << 20)


def fail(*_: object) -> Any:
    raise KeyError("no such size")


@pytest.mark.parametrize(
    ("choose", "error", "message"),
    [
        (fail, StepError, "training.engine: mine failed: KeyError: 'no such size'"),
        (lambda spaces: {}, StepError, "training.engine: mine failed: TypeError: .*takes 1 positional argument but 3 were given"),
        (lambda *_: None, SpecError, "mine returned None, expected a mapping of families to engines"),
        (lambda *_: {}, SpecError, "mine chose None, expected spark or tasks"),
    ],
)
def test_a_custom_engine_that_fails_is_named(choose: Callable[..., Any], error: type[TidemillError], message: str) -> None:
    with pytest.raises(error, match=message):
        choose_engines(Engine(name="mine", choose=choose), {"linear_svm": {}}, None, RESOURCES)  # type: ignore[arg-type]


def test_an_engine_is_called_by_the_name_in_the_spec() -> None:
    assert _accept("functions.MINE", Engine(name="spark", choose=fail)).name == "functions.MINE"
