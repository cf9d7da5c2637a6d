"""Commands that need no Spark, and how faults are told."""

from __future__ import annotations

import json

import pytest

from tidemill.cli import main
from tidemill.cli.jobs import main as job

SPEC = """\
pipeline: tiny
lake: {lake}
sources:
  planes: {{format: csv, path: {folder}/planes.csv}}
dataset: {{from: bronze.planes, key: [tail], label: late}}
training: {{task: binary}}
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "pipeline.yml"
    path.write_text(SPEC.format(lake=tmp_path / "lake", folder=tmp_path))
    return path


def test_check_names_the_nodes(spec, capsys):
    assert main(["check", str(spec), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == ["ingest.planes", "dataset", "train", "evaluate", "deploy", "score", "monitor"]


@pytest.mark.parametrize(
    ("keys", "task", "expected"),
    [
        (
            "label: late",
            "binary",
            ["the positive class of late is the greater of its two values, since dataset.positive does not name one"],
        ),
        ("label: late, positive: 'no'", "binary", ["the positive class of late is 'no', as dataset.positive says"]),
        (
            "label: late",
            "anomaly",
            ["the positive class of late is the greater of its two values, since dataset.positive does not name one"],
        ),
        ("label: late", "regression", []),
    ],
)
def test_check_says_which_class_is_positive(spec, capsys, keys, task, expected):
    spec.write_text(spec.read_text().replace("label: late", keys).replace("task: binary", f"task: {task}"))
    assert main(["check", str(spec), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == expected
    assert main(["check", str(spec)]) == 0
    assert all(sentence in capsys.readouterr().out for sentence in expected)


def test_every_fault_is_told_with_its_line_and_the_exit_code_is_2(spec, capsys):
    spec.write_text(spec.read_text().replace("label:", "lable:").replace("task: binary", "task: binary, folds: three"))
    assert main(["run", str(spec)]) == 2
    told = capsys.readouterr().err
    assert "pipeline.yml:5" in told
    assert "did you mean 'label'" in told
    assert "pipeline.yml:6" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ("gradient_boosted_trees: {maxDeth: 3}", "maxDeth: gradient_boosted_trees has no parameter 'maxDeth'; did you mean 'maxDepth'?"),
        ("hist_gradient_boosting: {early_stopping_rounds: 0}", "early_stopping_rounds: expected whole numbers from 1"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_wrong_parameters_of_a_family_are_told_before_anything_runs(spec, capsys, tmp_path, command, models, told):
    spec.write_text(spec.read_text().replace("{task: binary}", f"\n  task: binary\n  models:\n    {models}"))
    (tmp_path / "planes.csv").write_text("tail,late\nN1,1\n")
    assert main([command, str(spec)]) == 2
    shown = capsys.readouterr().err
    assert "pipeline.yml:9" in shown and told in " ".join(shown.split())
    assert not list((tmp_path / "lake").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "SPEC", "--only", "trian"], "did you mean 'train'"),
        (["run", "SPEC", "--set", "folds"], "expected a.b=c"),
        (["run", "nowhere.yml"], "nowhere.yml"),
        (["status", "--lake", "/nowhere/lake"], "there is no lake at /nowhere/lake"),
        (["sql", "--lake", "/nowhere/lake", "SELECT 1"], "there is no lake at /nowhere/lake"),
        (["run"], "SPEC"),
        (["rnu", "SPEC"], "rnu"),
        (["run", "SPEC", "--no-such-option"], "--no-such-option"),
        (["score", "SPEC", "--input", "x.csv", "--output", "y.txt"], ".csv, .json or .parquet"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_exit_code_2(spec, capsys, words, told):
    assert main([str(spec) if word == "SPEC" else word for word in words]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


def test_explain_and_dry_run_say_what_would_run_and_write_nothing(spec, capsys, tmp_path):
    (tmp_path / "planes.csv").write_text("tail,late\nN1,1\n")
    for words in (["explain", str(spec), "--json"], ["run", str(spec), "--dry-run", "--json"]):
        assert main(words) == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows[0] == {"node": "ingest.planes", "would": "run", "why": "it has never succeeded"}
        assert {row["would"] for row in rows} == {"run"}
    assert not list((tmp_path / "lake").rglob("*.json"))


def test_a_dry_run_without_its_files_says_so_and_ends_as_the_run_would(spec, capsys, tmp_path):
    for words in (["run", str(spec), "--dry-run", "--json"], ["explain", str(spec), "--json"]):
        assert main(words) == 1
        first, second, *_ = json.loads(capsys.readouterr().out)
        assert (first["would"], second["would"]) == ("fail", "run")
        assert f"no file at '{tmp_path / 'planes.csv'}'" in first["why"]


def test_check_gives_its_faults_as_json_too(spec, capsys):
    spec.write_text(spec.read_text().replace("label:", "lable:"))
    assert main(["check", str(spec), "--json"]) == 2
    shown = capsys.readouterr()
    [fault] = json.loads(shown.out)["faults"]
    assert (fault["line"], fault["key"]) == (5, "dataset.lable") and "did you mean 'label'" in fault["message"]
    assert "pipeline.yml:5" in shown.err


def test_faults_as_json_hold_no_secret(spec, capsys):
    from tidemill.redaction import register_secret

    register_secret("tiger-lily-99")
    spec.write_text(spec.read_text().replace("task: binary", "task: tiger-lily-99"))
    assert main(["check", str(spec), "--json"]) == 2
    shown = capsys.readouterr()
    assert "***" in shown.out and "tiger-lily-99" not in shown.out + shown.err


def test_run_gives_one_object_also_where_no_run_began(spec, capsys):
    assert main(["run", str(spec), "--only", "trian", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["exit_code"], told["steps"], told["run_id"]) == ("FAILED", 2, [], None)
    assert "did you mean 'train'" in told["error"]


def test_a_job_needs_its_spec(capsys):
    assert job("train", ["--force"]) == 2
    assert "--spec FILE" in capsys.readouterr().err


def test_a_job_is_its_step_of_run(spec, capsys):
    assert job("train", ["--spec", str(spec), "--dry-run", "--json"]) == 1  # as the run would end: there is no dataset yet
    assert [row["node"] for row in json.loads(capsys.readouterr().out)] == ["train"]


def test_the_schema_is_json(capsys):
    assert main(["schema"]) == 0
    assert "sources" in json.loads(capsys.readouterr().out)["properties"]
