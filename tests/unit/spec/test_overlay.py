from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.errors import SpecError
from tidemill.spec import load_spec


def test_an_overlay_is_merged_deeply(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    file = write(changed())
    write(
        "lake: s3a://bucket/lake\ntraining: {folds: 5, models: {random_forest: {maxDepth: [2]}}}\ndataset: {exclude: [a, b]}\n",
        "env/prod.yml",
    )
    base, prod = load_spec(file, environ={}).pipeline, load_spec(file, environ={}, env="prod").pipeline
    assert prod.lake == "s3a://bucket/lake"
    assert (prod.training.folds, prod.training.task) == (5, "binary")
    assert prod.training.models["random_forest"]["maxDepth"] == [2]
    assert prod.training.models["random_forest"]["numTrees"] == base.training.models["random_forest"]["numTrees"]
    assert prod.dataset.exclude == ["a", "b"], "lists are replaced"
    assert prod.sources == base.sources


def test_null_in_an_overlay_takes_a_key_back(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    file = write(changed())
    write("dataset: {sql: null, from: silver.flights}\n", "env/dev.yml")
    assert load_spec(file, environ={}, env="dev").pipeline.dataset.from_ == "silver.flights"


@pytest.mark.parametrize("is_in_project", [True, False])
def test_the_shared_overlay_is_found_and_the_one_beside_the_spec_has_the_last_word(
    write: Callable[..., Path], changed: Callable[..., str], tmp_path: Path, *, is_in_project: bool
) -> None:
    file = write(changed(), "jobs/daily/pipeline.yml" if is_in_project else "conf/flights/pipeline.yml")
    write("lake: /shared\ntraining: {folds: 4}\n", "conf/env/prod.yml")
    if is_in_project:
        write("", "setup.py")
    assert load_spec(file, environ={}, env="prod").pipeline.lake == "/shared"
    write("lake: /own\n", str(file.parent.relative_to(tmp_path) / "env/prod.yml"))
    own = load_spec(file, environ={}, env="prod").pipeline
    assert (own.lake, own.training.folds) == ("/own", 4)


def test_an_environment_that_is_not_there(write: Callable[..., Path], faults: Callable, changed: Callable[..., str]) -> None:
    write("{}", "env/prod.yml")
    [(line, key, message)] = faults(changed(), env="prd")
    assert (line, key) == (None, "prd")
    assert message.startswith("no such environment; did you mean 'prod'?")
    assert faults(changed(), env="../../etc/x")[0][2].startswith("not the name of an environment")


def test_faults_of_an_overlay_stand_in_its_file(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    file = write(changed())
    overlay = write("\ntraining:\n  folds: three\n", "env/prod.yml")
    with pytest.raises(SpecError) as caught:
        load_spec(file, environ={}, env="prod")
    assert [(fault.file, fault.line, fault.key) for fault in caught.value.faults] == [(str(overlay), 3, "training.folds")]


def test_settings_override_any_key(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    settings = {
        "training.folds": "5", "training.tuner.trials": "4", "dataset.split.test": "0.3", "lake": "2013", "description": "",
        "dataset.exclude.0": "air_time", "evaluation.gates": '["areaUnderROC >= 0.6"]', "sources.flights.options.sep": '"1"',
    }  # fmt: skip
    pipeline = load_spec(write(changed()), environ={}, set_values=settings).pipeline
    assert (pipeline.training.folds, pipeline.training.tuner.trials) == (5, 4)
    assert pipeline.dataset.split_rule().test == 0.3
    assert (Path(pipeline.lake).name, pipeline.description) == ("2013", "")
    assert pipeline.dataset.exclude == ["air_time"]
    assert pipeline.evaluation.gates == ["areaUnderROC >= 0.6"]
    assert pipeline.sources["flights"].options == {"header": True, "sep": "1"}


def test_settings_win_over_overlays_and_may_use_variables(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    file = write(changed())
    write("lake: /prod\n", "env/prod.yml")
    assert load_spec(file, environ={"X": "y"}, env="prod", set_values={"lake": "/set/${X}"}).pipeline.lake == "/set/y"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainin.folds", "5", "unknown key; did you mean 'training'?"),
        ("training.fold", "5", "unknown key; did you mean 'folds'?"),
        ("training.folds", "many", "expected a whole number, found 'many'"),
        ("dataset.exclude.7", "a", "no such item in the list; items count from 0"),
        ("training..folds", "5", "not a key; write --set training.folds=5"),
        ("dataset.exclude", "[a", "not valid YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_faults_of_settings(write: Callable[..., Path], changed: Callable[..., str], key: str, value: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(changed()), environ={}, set_values={key: value})
    assert [(fault.file, fault.line, fault.message) for fault in caught.value.faults] == [("--set", None, message)]
