"""Gates: what parses, what is refused, what the numbers say."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from tidemill.errors import UsageError
from tidemill.evaluation.estimates import Estimate, Measurement, SliceMeasurement
from tidemill.evaluation.gates import Measured, default_gates, parse_gate
from tidemill.extensions import search_beside
from tidemill.tasks.built_in import BINARY, MULTICLASS
from tidemill.workflow.outcome import sort_key

CANDIDATE = Measurement.of_values({"areaUnderPR": 0.40, "areaUnderROC": 0.70, "logLoss": 0.30})
BASELINE = Measurement.of_values({"areaUnderPR": 0.15, "areaUnderROC": 0.50, "logLoss": 0.45})
CHAMPION = Measurement.of_values({"areaUnderPR": 0.42, "areaUnderROC": 0.71, "logLoss": 0.29})
WITHOUT_CHAMPION = Measured({"candidate": CANDIDATE, "baseline": BASELINE})
ALL = Measured({"candidate": CANDIDATE, "baseline": BASELINE, "champion": CHAMPION})
DRAWS = np.linspace(-0.099, 0.099, 199)  # the 5th of 199, at 2.5 %, is -0.095


@pytest.mark.parametrize(
    ("text", "passed", "value", "bound"),
    [
        ("areaUnderPR >= 0.35", True, 0.40, 0.35),
        ("areaUnderPR > 0.4", False, 0.40, 0.40),
        ("areaUnderPR == 0.4", True, 0.40, 0.40),
        ("0.5 < areaUnderROC", True, 0.5, 0.70),
        ("areaUnderPR >= champion.areaUnderPR - 0.005", False, 0.40, 0.415),
        ("areaUnderPR >= champion.areaUnderPR - 0.05", True, 0.40, 0.37),
        ("logLoss <= 2 * (baseline.logLoss + -0.1) / 4", False, 0.30, 0.175),
        ("areaUnderPR > baseline.areaUnderPR", True, 0.40, 0.15),
        ("areaUnderPR / 0 > 0.1", False, None, 0.1),
        ("accuracy > 0", False, None, 0),  # undefined on these rows
    ],
)
def test_numbers_are_compared(text, passed, value, bound):
    result = parse_gate(text, BINARY).evaluate(ALL)
    assert result.passed is passed
    assert result.value == (None if value is None else pytest.approx(value))
    assert result.bound == pytest.approx(bound)
    assert result.sentence.startswith(text)
    assert ("passed" if passed else "refused") in result.sentence


def test_a_gate_on_the_champion_passes_where_there_is_none_and_says_so():
    result = parse_gate("areaUnderPR >= champion.areaUnderPR").evaluate(WITHOUT_CHAMPION)
    assert result.passed
    assert not result.was_compared
    assert "no champion" in result.sentence
    assert (result.value, result.bound) == (None, None)


def _with_draws(values, draws):
    return Measurement(1000, {name: Estimate(value, value + draws) for name, value in values.items()})


def test_an_interval_of_a_difference_is_paired():
    """The candidate is better by 0.01 in every draw, though each metric alone moves by 0.1."""
    models = {
        "candidate": _with_draws({"areaUnderPR": 0.41}, DRAWS),
        "champion": _with_draws({"areaUnderPR": 0.40}, DRAWS),
        "baseline": _with_draws({"areaUnderPR": 0.15}, DRAWS[::-1]),
    }
    measured = Measured(models, rows="model 2 and champion 1 on 1,000 test rows")
    result = parse_gate("lower(areaUnderPR - champion.areaUnderPR) > 0").evaluate(measured)
    assert result.passed
    assert (result.value, result.lower, result.upper) == pytest.approx((0.01, 0.01, 0.01))
    assert "model 2 and champion 1 on 1,000 test rows" in result.sentence
    # Against the baseline the draws go opposite ways: twice as wide.
    result = parse_gate("lower(areaUnderPR - baseline.areaUnderPR) > 0.1").evaluate(measured)
    assert not result.passed
    assert (result.lower, result.upper) == pytest.approx((0.26 - 0.19, 0.26 + 0.19))
    assert "95 % interval 0.07 to 0.45" in result.sentence
    # Ends are numbers: arithmetic goes on with them, and a bare metric has its own interval.
    assert parse_gate("upper(areaUnderPR) - lower(areaUnderPR) <= 0.2").evaluate(measured).value == pytest.approx(0.19)
    gate = parse_gate("upper(areaUnderPR - champion.areaUnderPR) > 0 * accuracy")
    assert [str(reference) for reference in gate.with_draws] == ["areaUnderPR", "champion.areaUnderPR"]
    assert parse_gate("areaUnderPR > 0.2").evaluate(measured).upper == pytest.approx(0.505)


def test_what_has_no_interval_does_not_pass_and_says_why():
    result = parse_gate("upper(areaUnderPR) > 0").evaluate(ALL)
    assert not result.passed
    assert "has no interval: it has no bootstrap draws" in result.sentence
    draws = np.where(np.arange(199) % 10 == 0, np.nan, DRAWS)
    result = parse_gate("upper(areaUnderPR) > 0").evaluate(Measured({"candidate": _with_draws({"areaUnderPR": 0.4}, draws)}))
    assert not result.passed
    assert "undefined in more than 5 % of the bootstrap draws" in result.sentence


def test_defaults_follow_the_direction_of_the_metric_and_compare_values_without_intervals():
    assert default_gates("areaUnderPR", has_intervals=True) == (
        "lower(areaUnderPR - baseline.areaUnderPR) > 0",
        "upper(areaUnderPR - champion.areaUnderPR) >= 0",
    )
    assert default_gates("logLoss", has_intervals=True) == (
        "upper(logLoss - baseline.logLoss) < 0",
        "lower(logLoss - champion.logLoss) <= 0",
    )
    assert default_gates("areaUnderPR", has_intervals=False) == (
        "areaUnderPR > baseline.areaUnderPR",
        "areaUnderPR >= champion.areaUnderPR",
    )
    assert default_gates("logLoss", has_intervals=False) == ("logLoss < baseline.logLoss", "logLoss <= champion.logLoss")
    noisy = {
        owner: _with_draws({"logLoss": value}, DRAWS) for owner, value in (("candidate", 0.30), ("baseline", 0.45), ("champion", 0.29))
    }
    for texts, passed in ((default_gates("logLoss", has_intervals=True), [True, False]),):
        assert [parse_gate(text, BINARY).evaluate(Measured(noisy)).passed for text in texts] == passed


class TestSlices:
    """Carriers with 500, 400, 120 and 5 rows; the last one, and the one without a late flight, are not gated."""

    def measured(self, least=100):
        carriers = {"AA": (500, 0.70), "UA": (400, 0.62), "HA": (120, np.nan), "OO": (5, np.nan)}
        models = {}
        for owner, shift in (("candidate", 0.0), ("champion", 0.02)):
            slices = {
                f"carrier={name}": SliceMeasurement(rows, {"areaUnderROC": Estimate(value - shift, value - shift + DRAWS)}, ("carrier",))
                for name, (rows, value) in carriers.items()
            }
            slices["carrier=UA, origin=JFK"] = SliceMeasurement(200, {"areaUnderROC": Estimate(0.55)}, ("carrier", "origin"))
            models[owner] = Measurement(1025, {"areaUnderROC": Estimate(0.68 - shift, 0.68 - shift + DRAWS)}, slices)
        return Measured(models, min_slice_rows=least)

    def test_the_least_and_the_greatest_slice_are_compared_and_named(self):
        result = parse_gate("min(slices.carrier.areaUnderROC) >= 0.65", BINARY).evaluate(self.measured())
        assert (result.passed, result.value) == (False, pytest.approx(0.62))
        assert "at carrier=UA, of 2 slices" in result.sentence
        assert "; not gated: carrier=OO (5 rows, fewer than 100), carrier=HA (areaUnderROC is undefined)" in result.sentence
        assert result.left_out == ("carrier=OO (5 rows, fewer than 100)", "carrier=HA (areaUnderROC is undefined)")
        assert parse_gate("max(slices.carrier.areaUnderROC) < 0.71").evaluate(self.measured()).value == pytest.approx(0.70)

    def test_a_slice_without_a_value_is_named_whatever_its_size(self):
        result = parse_gate("min(slices.carrier.areaUnderROC) >= 0.6").evaluate(self.measured(least=1))
        assert result.passed
        assert result.left_out == ("carrier=HA (areaUnderROC is undefined)", "carrier=OO (areaUnderROC is undefined)")

    def test_intervals_inside_and_outside(self):
        inside = parse_gate("min(lower(slices.carrier.areaUnderROC)) >= 0.5").evaluate(self.measured())
        assert (inside.passed, inside.value) == (True, pytest.approx(0.62 - 0.095))
        assert (inside.lower, inside.upper) == pytest.approx((0.525, 0.715))
        outside = parse_gate("lower(min(slices.carrier.areaUnderROC)) >= 0.5").evaluate(self.measured())
        assert outside.value == pytest.approx(0.525)

    def test_slices_of_two_models_and_of_all_rows_are_paired(self):
        gate = "min(lower(slices.carrier.areaUnderROC - champion.slices.carrier.areaUnderROC)) > 0"
        assert parse_gate(gate).evaluate(self.measured()).value == pytest.approx(0.02)
        gate = "max(upper(areaUnderROC - slices.carrier.areaUnderROC)) <= 0.1"  # how far a slice may be behind
        assert parse_gate(gate).evaluate(self.measured()).value == pytest.approx(0.06)

    def test_pairs_in_either_order(self):
        for pair in ("carrier, origin", "origin, carrier", "'carrier', origin"):
            assert parse_gate(f"min(slices[{pair}].areaUnderROC) >= 0.5").evaluate(self.measured()).value == 0.55

    @pytest.mark.parametrize(("column", "why"), [("origin", "no slice is left"), ("carrier", "carrier=OO (5 rows, fewer than 501)")])
    def test_without_a_slice_left_it_is_refused(self, column, why):
        result = parse_gate(f"min(slices.{column}.areaUnderROC) >= 0").evaluate(self.measured(least=501))
        assert (result.passed, result.value) == (False, None)
        assert "no slice is left to gate" in result.sentence
        assert why in result.sentence

    def test_classes_of_a_label_have_metrics_of_their_own(self):
        gate = parse_gate("min(slices.topic.recall) >= 0.5", MULTICLASS)
        classes = {
            f"topic={name}": SliceMeasurement(200, {"recall": Estimate(value)}, ("topic",)) for name, value in (("a", 0.7), ("b", 0.4))
        }
        result = gate.evaluate(Measured({"candidate": Measurement(400, {}, classes)}))
        assert (result.passed, result.value) == (False, 0.4)
        with pytest.raises(UsageError, match="unknown metric 'recall' of a multiclass task"):
            parse_gate("recall >= 0.5", MULTICLASS)

    def test_references_are_written_as_in_a_gate(self):
        text = "min(slices[a, 'b c'].f1) >= max(champion.slices.a.f1)"
        gate = parse_gate(text, BINARY)
        assert gate.slicings == (("a", "b c"), ("a",))
        assert gate.needs_champion
        assert [str(reference) for reference in gate.references] == ["slices[a, 'b c'].f1", "champion.slices.a.f1"]


def test_costs_are_of_the_candidate_or_the_champion():
    measured = Measured(ALL.models, costs={"candidate": {"model_mb": 12.5, "score_ms_per_1k_rows": 40.0}, "champion": {"model_mb": 5.0}})
    assert parse_gate("model_mb <= 200").evaluate(measured).value == 12.5
    assert parse_gate("score_ms_per_1k_rows <= 50").evaluate(measured).passed
    assert not parse_gate("model_mb <= 2 * champion.model_mb").evaluate(measured).passed


def test_metrics_of_the_spec_and_functions_beside_it(tmp_path: Path):
    (tmp_path / "own_gates.py").write_text(
        dedent("""
        class Second:
            \"\"\"The second least value of slices.\"\"\"

            over_slices = True

            def apply(self, slices):
                return sorted(estimate.value for estimate in slices.values())[1]
        """)
    )
    assert parse_gate("profit > baseline.profit", BINARY, {"profit": "…"}).metrics == ()
    with search_beside(tmp_path):
        gate = parse_gate("own_gates.Second(slices.carrier.areaUnderROC) >= 0.7", BINARY)
        assert gate.functions == ("own_gates.Second",)
        assert not gate.with_draws
        assert gate.evaluate(TestSlices().measured()).value == pytest.approx(0.70)
        with pytest.raises(UsageError, match=r"own_gates.*Third"):
            parse_gate("own_gates.Third(f1) > 0", BINARY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("areaUnderPr >= 0.3", "did you mean 'areaUnderPR'"),
        ("rmse < 3", "unknown metric 'rmse' of a binary task"),
        ("model_md < 3", "did you mean 'model_mb'"),
        ("champio.f1 > 0.1", "did you mean 'champion'"),
        ("mim(slices.carrier.f1) > 0.1", "did you mean 'min'"),
        ("low(f1) > 0.1", "did you mean 'lower'"),
        ("slices.carrier.f1 > 0.1", "write min(slices.carrier.f1)"),
        ("lower(slices.carrier.f1) > 0.1", "write min(lower(slices.carrier.f1))"),
        ("min(f1) > 0.1", "slices.<column>.<metric>"),
        ("min(slices.f1) > 0.1", "slices.<column>.<metric>"),
        ("min(slices[carrier, 3].f1) > 0.1", "`3` is not a column"),
        ("min(slices[carrier][origin].f1) > 0.1", "brackets belong to `slices`"),
        ("f1[carrier] > 0.1", "brackets belong to `slices`"),
        ("min(slices.a.f1 - slices.b.f1) > 0", "slices.a.f1 and slices.b.f1 are of different slices"),
        ("lower(f1, accuracy) > 0.1", "takes one argument"),
        ("lower(model_mb) > 0.1", "has no interval"),
        ("lower(0.5) > f1", "is that number"),
        ("upper(lower(f1)) > 0.1", "has no interval"),
        ("model_mb <= baseline.model_mb", "of the candidate or the champion"),
        ("min(slices.carrier.model_mb) > 0", "over all rows"),
        ("f1", "not one comparison"),
        ("0.1 < f1 < 0.2", "not one comparison"),
        ("f1 != 0.2", "not one comparison"),
        ("f1 >=", "does not parse"),
        ("1 > 0", "names no metric"),
        ("-" * 3000 + "f1 > 0", ""),
        ("__import__('os').system('true') > 0", "unknown function"),
        ("f1 > 'a'", "is not allowed"),
        ("f1 ** 9 > 1", "is not allowed"),
        ("f1 > True", "is not allowed"),
        ("[f1][0] > 1", "is not allowed"),
        ("(lambda: f1)() > 1", "unknown function"),
    ],
)
def test_faults_are_one_sentence_with_the_nearest_match(text, message):
    with pytest.raises(UsageError) as caught:
        parse_gate(text, BINARY)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("modules", "absent"), [("gates", "numpy"), ("gates, tidemill.model_registry.deployments", "pyspark")])
def test_gates_load_without_spark(modules, absent):
    code = f"import sys, tidemill.evaluation.{modules}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_trials_of_a_metric_that_is_gone_keep_their_order():
    trials = [{"value": 0.2, "metric": "functions.Gone"}, {"value": 0.9, "metric": "functions.Gone"}, {"value": None, "metric": "f1"}]
    assert sorted(trials, key=sort_key) == trials
