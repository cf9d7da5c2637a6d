"""Custom feature stages and feature checks, as a spec declares them."""

from tests.unit.spec.conftest import GOOD

from tidemill.spec import load_spec


def test_a_class_that_is_not_there_is_a_fault_with_its_line(write, faults):
    text = GOOD.replace("columns: [distance]}", "columns: [distance]}\n  custom: [{python: functions.RouteEncodr}]")
    assert faults(text)[0][:2] == (24, "features.custom.0.python")
    write("class RouteEncoder: ...\n", "functions.py")
    [(line, key, message)] = faults(text)
    assert (line, key) == (24, "features.custom.0.python")
    assert "defines no 'RouteEncodr'; did you mean 'RouteEncoder'?" in message


def test_the_columns_of_a_stage_are_its_own_or_those_its_params_name(write):
    write("class RouteEncoder: ...\n", "functions.py")
    custom = (
        "[{python: functions.RouteEncoder, params: {a: origin, many: [dest, 3], k: 2}}, {python: functions.RouteEncoder, columns: [x]}]"
    )
    text = GOOD.replace("columns: [distance]}", f"columns: [distance]}}\n  custom: {custom}")
    features = load_spec(write(text), environ={}).pipeline.features
    assert [part.named_columns for part in features.blocks("custom")] == [["origin", "dest"], ["x"]]
    assert features.columns == ["distance", "origin", "dest", "x"]
    assert not features.is_open


def test_checks_take_their_words_only(faults):
    text = GOOD.replace("columns: [distance]}", "columns: [distance]}\n  checks: {leakage: blok, correlation: 2, alow: [a]}")
    actual = {key: message for _, key, message in faults(text)}
    assert "did you mean 'block'?" in actual["features.checks.leakage"]
    assert "features.checks.correlation" in actual
    assert actual["features.checks.alow"] == "unknown key; did you mean 'allow'?"
