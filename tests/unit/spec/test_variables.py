from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.spec import load_spec
from tidemill.spec.loading.document import MAX_FAULTS
from tidemill.spec.loading.variables import UnresolvedVariable, Variables

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=8)
TEXTS = st.text(max_size=20)


def test_order_of_the_four_places() -> None:
    every = {"A": "set", "B": "set"}
    assert Variables(every, {"A": "env"}, {"A": "spec"}).get("A") == "set"
    assert Variables({}, {"A": "env"}, {"A": "spec"}).get("A") == "env"
    assert Variables({}, {}, {"A": "spec"}).get("A") == "spec"
    assert Variables(every).get("C") is None


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "1"), ("x${A}y${A}", "x1y1"), ("${B:-d}", "d"), ("${A:-d}", "1"), ("${EMPTY:-d}", "d"), ("${EMPTY}", ""), ("${B:-}", ""),
        ("${B:-${A}/x}", "1/x"), ("${B:-${C:-deep}}", "deep"), ("${secret:scope/key}", "${secret:scope/key}"), ("$${A}", "${A}"),
        ("a$${A}b${A}", "a${A}b1"), ("^[a-z]$ and $1 {x}", "^[a-z]$ and $1 {x}"),
    ],
)  # fmt: skip
def test_expansion(text: str, expanded: str) -> None:
    assert Variables({}, {"A": "1", "EMPTY": ""}).expand(text) == expanded


@pytest.mark.parametrize("text", ["${B}", "${}", "${a b}", "${A", "${B:-${C}}", "${A:d}"])
def test_what_cannot_be_expanded(text: str) -> None:
    with pytest.raises(UnresolvedVariable):
        Variables({}, {"A": "1"}).expand(text)


def test_declared_variables_use_others_and_circles_are_named() -> None:
    assert Variables({}, {"HOME": "/h"}, {"DATA": "${HOME}/d", "RAW": "${DATA}/raw"}).expand("${RAW}") == "/h/d/raw"
    with pytest.raises(UnresolvedVariable, match="A → B → A"):
        Variables({}, {}, {"A": "${B}", "B": "${A}"}).expand("${A}")


def test_values_from_outside_are_taken_as_they_are() -> None:
    assert Variables({"A": "${B}"}, {"C": "${B}"}).expand("${A}${C}") == "${B}${B}"


@given(st.text(st.characters(exclude_characters="$"), max_size=40))
def test_text_without_variables_is_left_alone(text: str) -> None:
    assert Variables().expand(text) == text


@given(st.lists(st.tuples(TEXTS.filter(lambda text: "$" not in text), NAMES)), st.dictionaries(NAMES, TEXTS))
def test_expansion_is_replacement(parts: list[tuple[str, str]], values: dict[str, str]) -> None:
    values |= {name: values.get(name, "v") for _, name in parts}
    template = "".join(f"{text}${{{name}}}" for text, name in parts)
    assert Variables({}, values).expand(template) == "".join(text + values[name] for text, name in parts)


def test_a_value_that_is_one_variable_is_typed_again(write: Callable[[str], Path], changed: Callable[..., str]) -> None:
    text = changed(
        "  task: binary", "  task: binary\n  folds: ${FOLDS:-5}\n  tuner: {seed: '${SEED}'}", "pipeline: flights", "pipeline: f_${SEED}"
    )
    spec = load_spec(write(text), environ={"SEED": "11"})
    assert (spec.pipeline.training.folds, spec.pipeline.training.tuner.seed, spec.pipeline.pipeline) == (5, 11, "f_11")


def test_a_number_is_text_where_text_is_wanted(write: Callable[[str], Path], changed: Callable[..., str]) -> None:
    text = changed("lake: ./lake", "lake: ${LAKE}\ndescription: ${EMPTY:-}")
    spec = load_spec(write(text), environ={"LAKE": "007"})
    assert (Path(spec.pipeline.lake).name, spec.pipeline.description) == ("007", "")


def test_secrets_stay_references(write: Callable[[str], Path], changed: Callable[..., str]) -> None:
    text = changed("options: {header: true}", 'options: {header: true, token: "${secret:scope/key}"}')
    assert load_spec(write(text), environ={}).pipeline.sources["flights"].options["token"] == "${secret:scope/key}"


def test_unresolved_variables_are_faults_with_lines_and_nearest_match(faults: Callable, changed: Callable[..., str]) -> None:
    actual = faults(
        changed("${DATA:-./data}/*.csv", "${DATTA}/*.csv", "distance > 0", "'distance > ${MINIMUM}'", "lake: ./lake", "vars: {DATA: x}")
    )
    assert [(line, key) for line, key, _ in actual] == [(6, "sources.flights.path"), (14, "tables.flights.expectations.far.check")]
    assert actual[0][2].startswith("variable 'DATTA' is not set; did you mean 'DATA'?")
    assert "--set vars.MINIMUM=" in actual[1][2]


def test_an_unresolved_value_is_reported_once_and_hides_nothing_else(faults: Callable, changed: Callable[..., str]) -> None:
    actual = faults(changed("task: binary", "task: ${TASK}\n  folds: three"))
    assert [key for _, key, _ in actual] == ["training.task", "training.folds"]


def test_a_wrong_value_from_a_variable_is_not_shown(faults: Callable, changed: Callable[..., str]) -> None:
    [(_, key, message)] = faults(changed("task: binary", "task: binary\n  folds: ${FOLDS}"), environ={"FOLDS": "hunter2"})
    assert (key, message) == ("training.folds", "expected a whole number, found the value of ${FOLDS}")


def test_set_and_overlay_variables(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    file = write("vars: {DATA: ./spec}\n" + changed())
    write("vars: {DATA: ./overlay}\n", "env/prod.yml")
    paths = [
        load_spec(file, environ={}).pipeline.sources["flights"].path,
        load_spec(file, environ={}, env="prod").pipeline.sources["flights"].path,
        load_spec(file, environ={"DATA": "./env"}, env="prod").pipeline.sources["flights"].path,
        load_spec(file, environ={"DATA": "./env"}, set_values={"vars.DATA": "./set"}).pipeline.sources["flights"].path,
    ]
    assert paths == [f"{file.parent}/{name}/*.csv" for name in ("spec", "overlay", "env", "set")]


def test_variables_that_use_each_other_are_bounded_in_text_and_depth(faults: Callable, changed: Callable[..., str]) -> None:
    doubling = "vars:\n" + "".join(f'  V{n}: "${{V{n + 1}}}${{V{n + 1}}}"\n' for n in range(39)) + "  V39: xxxxxxxxxx\n"
    [(line, key, message)] = faults(doubling + changed("label: is_late", "label: ${V0}"))
    assert (line, key) == (2, "vars.V0")
    assert message.startswith("variables produce more than 1,000,000 characters of the spec (V0 → V1 → ")
    chain = "vars:\n" + "".join(f'  V{n}: "${{V{n + 1}}}"\n' for n in range(3000)) + "  V3000: x\n"
    assert [key for _, key, _ in faults(chain + changed("label: is_late", "label: ${V0}"))] == ["vars.V0"]
    nested = "${A:-" * 3000 + "x" + "}" * 3000
    [(line, key, message)] = faults(changed("label: is_late", f'label: "{nested}"'))
    assert (line, key, "more than 40 deep" in message) == (18, "dataset.label", True)


def test_each_declared_variable_is_expanded_once() -> None:
    halves = {f"V{n}": f"${{V{n + 1}:-}}${{V{n + 1}:-}}" for n in range(39)}  # 2^39 look-ups of nothing, were none kept
    assert Variables({}, {}, halves | {"V39": ""}).expand("${V0}") == ""


def test_many_unknown_variables_are_reported_up_to_a_number(faults: Callable, changed: Callable[..., str]) -> None:
    names = ", ".join(f'"${{X{n}}}"' for n in range(5000))
    assert len(faults(changed("exclude: [arr_time]", f"exclude: [{names}]"))) == MAX_FAULTS
