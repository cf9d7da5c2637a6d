"""Gates: what parses, what is refused, what the numbers say."""

import math
import subprocess
import sys

import pytest

from tidemill.errors import UsageError
from tidemill.evaluation.gates import default_gate, parse_gate
from tidemill.tasks.built_in import BINARY
from tidemill.workflow.outcome import sort_key

METRICS = {"areaUnderPR": 0.40, "areaUnderROC": 0.70, "logLoss": 0.30}
BASELINE = {"areaUnderPR": 0.15, "areaUnderROC": 0.50, "logLoss": 0.45}
CHAMPION = {"areaUnderPR": 0.42, "areaUnderROC": 0.71, "logLoss": 0.29}


@pytest.mark.parametrize(
    ("text", "passed", "left", "right"),
    [
        ("areaUnderPR >= 0.35", True, 0.40, 0.35),
        ("areaUnderPR > 0.4", False, 0.40, 0.40),
        ("areaUnderPR == 0.4", True, 0.40, 0.40),
        ("0.5 < areaUnderROC", True, 0.5, 0.70),
        ("areaUnderPR >= champion.areaUnderPR - 0.005", False, 0.40, 0.415),
        ("areaUnderPR >= champion.areaUnderPR - 0.05", True, 0.40, 0.37),
        ("logLoss <= 2 * (baseline.logLoss + -0.1) / 4", False, 0.30, 0.175),
        ("areaUnderPR > baseline.areaUnderPR", True, 0.40, 0.15),
        ("areaUnderPR / 0 > 0.1", False, math.nan, 0.1),
    ],
)
def test_numbers_are_compared(text, passed, left, right):
    result = parse_gate(text, BINARY).evaluate(METRICS, BASELINE, CHAMPION)
    assert result.passed is passed
    assert result.left == pytest.approx(left, nan_ok=True)
    assert result.right == pytest.approx(right)
    assert result.sentence.startswith(text)
    assert ("passed" if passed else "refused") in result.sentence


def test_a_gate_on_the_champion_passes_where_there_is_none_and_says_so():
    result = parse_gate("areaUnderPR >= champion.areaUnderPR").evaluate(METRICS, BASELINE, None)
    assert result.passed
    assert "no champion" in result.sentence
    assert (result.left, result.right) == (None, None)


def test_an_undefined_metric_does_not_pass():
    assert not parse_gate("areaUnderPR > 0").evaluate({"areaUnderPR": math.nan}, BASELINE, None).passed


def test_the_default_is_better_than_the_baseline_in_the_direction_of_the_metric():
    assert default_gate("areaUnderPR") == "areaUnderPR > baseline.areaUnderPR"
    assert default_gate("logLoss") == "logLoss < baseline.logLoss"
    assert parse_gate(default_gate("logLoss"), BINARY).evaluate(METRICS, BASELINE, None).passed


def test_slices_parse():
    gate = parse_gate("min(slices.carrier.areaUnderROC) >= 0.6", BINARY)
    assert gate.needs_slices
    assert not gate.needs_champion
    assert [str(reference) for reference in gate.references] == ["slices.carrier.areaUnderROC"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("areaUnderPr >= 0.3", "did you mean 'areaUnderPR'"),
        ("rmse < 3", "unknown metric 'rmse' of a binary task"),
        ("champio.f1 > 0.1", "did you mean 'champion'"),
        ("mim(slices.carrier.f1) > 0.1", "did you mean 'min'"),
        ("slices.carrier.f1 > 0.1", "write min(slices.carrier.f1)"),
        ("min(f1) > 0.1", "slices.<column>.<metric>"),
        ("f1", "not one comparison"),
        ("0.1 < f1 < 0.2", "not one comparison"),
        ("f1 != 0.2", "not one comparison"),
        ("f1 >=", "does not parse"),
        ("1 > 0", "names no metric"),
        ("__import__('os').system('true') > 0", "unknown function"),
        ("f1 > 'a'", "is not allowed"),
        ("f1 ** 9 > 1", "is not allowed"),
        ("f1 > True", "is not allowed"),
        ("[f1][0] > 1", "is not allowed"),
    ],
)
def test_faults_are_one_sentence_with_the_nearest_match(text, message):
    with pytest.raises(UsageError) as caught:
        parse_gate(text, BINARY)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gates_load_without_spark():
    code = "import sys, tidemill.evaluation.gates, tidemill.model_registry.deployments; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_trials_of_a_metric_that_is_gone_keep_their_order():
    trials = [{"value": 0.2, "metric": "functions.Gone"}, {"value": 0.9, "metric": "functions.Gone"}, {"value": None, "metric": "f1"}]
    assert sorted(trials, key=sort_key) == trials
