"""Gates of a spec: what `check` says of those that the rest of the spec does not support."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.spec import load_spec


def gate(text: str, **evaluation: str) -> tuple[str, str]:
    """Return a replacement of the good spec: one gate, and further keys of `evaluation`."""
    keys = "".join(f"  {key}: {value}\n" for key, value in evaluation.items())
    return "monitoring:\n", f"evaluation:\n{keys}  gates:\n    - areaUnderROC >= 0.5\n    - {text}\nmonitoring:\n"


SLICES = "[carrier, [carrier, origin], {distance: [0, 500]}]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (gate("lower(areaUnderPR) > 0.3", bootstrap="0"), "need bootstrap draws, and `bootstrap: 0` makes none; write `bootstrap: 200`"),
        (gate("max(slices.carier.f1) > 0.3", slices=SLICES), "slices of carier are not in `evaluation.slices`; did you mean 'carrier'?"),
        (gate("max(slices[carrier, dest].f1) > 0.3", slices=SLICES), "it has carrier, [carrier, origin], distance; add `[carrier, dest]`"),
        (gate("max(slices.origin.f1) > 0.3"), "slices of origin are not in `evaluation.slices`; it is empty; add `origin` there"),
        (gate("areaUnderPr > 0.3"), "did you mean 'areaUnderPR'?"),
        (gate("profit > 0.3"), "unknown metric 'profit' of a binary task"),
        (
            gate("lower(spread) > 1", metrics="{spread: stddev(probability)}"),
            "spread has no interval, as it is more than a formula of sum()",
        ),
        (gate("quantileLoss > 0.3"), "unknown metric 'quantileLoss' of a binary task"),
    ],
)
def test_a_gate_that_cannot_be_evaluated_is_named_with_its_line(faults: Callable, changed: Callable, change: tuple, message: str) -> None:
    text = changed(*change)
    [(line, told)] = [(line, told) for line, key, told in faults(text) if key == "evaluation.gates.1"]
    assert message in told
    assert text.splitlines()[line - 1] == f"    - {change[1].splitlines()[-2].partition('- ')[2]}"


@pytest.mark.parametrize("metric", ["recall", "specificity", "falsePositiveRate", "expectedCalibrationError"])
def test_who_selects_by_what_a_constant_reaches_must_declare_gates(
    write: Callable[..., Path], faults: Callable, changed: Callable, metric: str
) -> None:
    selected = ("metric: areaUnderPR", f"metric: {metric}")
    [(line, key, message)] = faults(changed(*selected))
    assert (key, line) == ("training.metric", 26)
    assert f"a constant prediction reaches the best {metric}" in message
    assert "declare `evaluation.gates`, such as `areaUnderPR > baseline.areaUnderPR`" in message
    assert load_spec(write(changed(*selected, *gate(f"{metric} > 0.3"))), environ={}).pipeline.selection_metric == metric


def test_classes_of_the_label_and_groups_of_fairness_are_slices_too(faults: Callable, changed: Callable[..., str]) -> None:
    text = changed(*gate("min(slices.is_late.recall) > 0.1", fairness="{by: [sex]}")).replace(
        "    - areaUnderROC >= 0.5\n", "    - min(slices.sex.recall) > 0.1\n    - min(slices.age.recall) > 0.1\n"
    )
    assert [key for _, key, _ in faults(text) if key.startswith("evaluation.gates")] == ["evaluation.gates.1"]


def test_values_need_no_draws(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    own = gate("lower(share) > max(slices[origin, carrier].f1) - spread", slices=SLICES, metrics="{share: avg(label), spread: max(label)}")
    assert load_spec(write(changed(*own)), environ={}).pipeline.evaluation.bootstrap == 200
    spec = load_spec(write(changed(*gate("areaUnderPR >= champion.areaUnderPR", bootstrap="0"))), environ={})
    assert len(spec.pipeline.evaluation.gates or ()) == 2


@pytest.mark.parametrize(
    ("task", "metric"), [("clustering", "silhouette"), ("anomaly", "massVolume"), ("recommendation, user: a, item: b", "ndcgAtK")]
)
def test_a_metric_that_never_has_an_interval(faults: Callable, changed: Callable, task: str, metric: str) -> None:
    text = changed("task: binary\n", f"task: {task.partition(',')[0]}\n", *gate(f"upper({metric}) > 0.1"))
    told = [message for _, key, message in faults(text) if key == "evaluation.gates.1"]
    assert told == [f"{metric} has no interval; leave lower() and upper() out, and compare the values"]
