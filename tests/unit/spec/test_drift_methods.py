"""Drift methods by name: built in, or of the user's own."""

from __future__ import annotations

import pytest

from tidemill.monitoring.methods import DRIFT_METHODS, PSI
from tidemill.spec import load_spec
from tidemill.workflow import build_graph
from tidemill.workflow.fingerprint import fingerprint_definition

CODE = """
from tidemill.monitoring.methods import DriftMethod

def largest_difference(reference, compared):
    return max(abs(a / sum(reference) - b / sum(compared)) for a, b in zip(reference, compared))

strict = DriftMethod("strict", largest_difference, warn=0.01, alert=0.02)
nothing = 3
"""


@pytest.fixture
def drift(write, changed):
    def load(rule: str, code: str = CODE):
        file = write(changed("drift: {warn: 0.1}", "drift: {" + rule + "}"))
        (file.parent / "functions.py").write_text(code)
        return load_spec(file, environ={})

    return load


class TestDriftMethods:
    def test_psi_is_the_default(self, drift):
        rule = drift("warn: 0.1").pipeline.monitoring.drift
        assert rule.measure is PSI
        assert rule.levels == (0.1, 0.25)

    def test_a_function_of_counts_is_a_method(self, drift):
        rule = drift("method: functions.largest_difference, alert: 0.5").pipeline.monitoring.drift
        assert rule.measure.distance([1, 1], [3, 1]) == 0.25
        assert rule.levels == (0.1, 0.5)

    def test_a_method_has_levels_of_its_own(self, drift):
        assert drift("method: functions.strict").pipeline.monitoring.drift.levels == (0.01, 0.02)

    def test_an_edit_of_the_function_changes_the_fingerprint_of_monitor_alone(self, drift):
        def definitions(code):
            spec = drift("method: functions.largest_difference", code)
            return {name: fingerprint_definition(spec, build_graph(spec)[name]) for name in ("score", "monitor")}

        before, after = definitions(CODE), definitions(CODE + "\n# edited\n")
        assert before["score"] == after["score"]
        assert before["monitor"] != after["monitor"]

    @pytest.mark.parametrize(
        ("rule", "key", "message"),
        [
            ("method: spi", "method", "no drift method is called 'spi'; did you mean 'psi'?"),
            ("method: functions.nothing", "method", "expected a DriftMethod, or a function of two lists of counts, found 3"),
            ("method: functions.nowhere", "method", "defines no 'nowhere'"),
            ("method: functions.strict, warn: 0.03", "warn", "0.03 is above `alert` (0.02); a warning comes first"),
            ("alert: 0.05", "alert", "0.05 is below `warn` (0.1); a warning comes first"),
        ],
    )
    def test_names_what_is_wrong(self, faults, changed, tmp_path, rule, key, message):
        (tmp_path / "functions.py").write_text(CODE)
        [(line, place, fault_message)] = faults(changed("drift: {warn: 0.1}", "drift: {" + rule + "}"))
        assert (line, place) == (30, f"monitoring.drift.{key}")
        assert message in fault_message

    def test_every_name_that_a_message_offers_is_there(self):
        assert DRIFT_METHODS.names == ("psi",)
