"""Families of the user's own: by a dotted path beside the spec, and by the entry point of an installed package."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from tidemill import extensions
from tidemill.errors import SpecError
from tidemill.families import IN_TASKS, MLlibFamily
from tidemill.families.space import LogRange
from tidemill.spec import load_spec
from tidemill.steps.train.feature_variants import resolve_declared_spaces

SPEC = """\
pipeline: p
sources:
  s: {format: csv, path: s.csv}
dataset:
  sql: SELECT * FROM bronze.s
  key: [id]
  label: y
training:
  task: binary
  models:
    NAME: SPACE
"""
CODE = """\
from tidemill.families import BOTH_WAYS, MLlibFamily
from tidemill.families.space import LogRange

class Ridge(MLlibFamily):
    def __init__(self):
        super().__init__(
            name="ridge",
            spaces={"binary": {"regParam": LogRange(log=[1e-3, 1.0])}},
            estimators={"binary": "pyspark.ml.classification.LogisticRegression"},
            learner_at="tidemill.learners.penalised:LOGISTIC",
            weights=BOTH_WAYS,
        )

NOT_A_FAMILY = 3
"""


@pytest.fixture
def write(tmp_path):
    def write(name, space="{}", extra=""):
        (tmp_path / "functions.py").write_text(CODE)
        file = tmp_path / "pipeline.yml"
        file.write_text(SPEC.replace("NAME", name).replace("SPACE", space).replace("  task: binary\n", f"  task: binary\n{extra}"))
        return file

    return write


class TestDottedPath:
    def test_a_family_beside_the_spec_brings_its_space_and_its_code_is_part_of_the_fingerprint(self, write):
        spec = load_spec(write("functions.Ridge"), environ={})
        assert resolve_declared_spaces(spec) == {"functions.Ridge": {"regParam": LogRange(log=[1e-3, 1.0])}}
        assert spec.training_code() == [CODE]

    def test_its_parameters_are_checked_by_its_estimator(self, write):
        with pytest.raises(SpecError, match="ridge has no parameter 'regparam'; did you mean 'regParam'"):
            resolve_declared_spaces(load_spec(write("functions.Ridge", "{regparam: 0.1}"), environ={}))

    def test_what_it_cannot_do_is_refused_at_its_line(self, write):
        with pytest.raises(SpecError) as caught:
            load_spec(write("functions.Ridge", extra="  monotone: {x: increasing}\n"), environ={})
        [fault] = caught.value.faults
        assert (fault.line, fault.key) == (12, "training.models.functions.Ridge")
        assert fault.message.startswith(
            "functions.Ridge cannot keep `training.monotone`; name gradient_boosted_trees, hist_gradient_boosting"
        )

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("functions.Rigde", "defines no 'Rigde'; did you mean 'Ridge'?"),
            ("functions.NOT_A_FAMILY", "cannot be used: it is int, expected a tidemill.families.Family"),
        ],
    )
    def test_what_is_no_family_is_refused_at_its_line(self, write, name, message):
        with pytest.raises(SpecError) as caught:
            load_spec(write(name), environ={})
        [fault] = caught.value.faults
        assert (fault.line, fault.key) == (11, f"training.models.{name}")
        assert message in fault.message


class TestEntryPoint:
    def test_a_family_of_an_installed_package_is_named_like_a_built_in_one(self, write, monkeypatch):
        module = ModuleType("a_package")
        module.FAMILY = MLlibFamily(  # type: ignore[attr-defined]
            name="short_trees",
            encoding="tree",
            spaces={"binary": {"maxDepth": [2, 3]}},
            estimators={"binary": "pyspark.ml.classification.DecisionTreeClassifier"},
            weights=frozenset({IN_TASKS}),
        )
        monkeypatch.setitem(sys.modules, "a_package", module)
        point = EntryPoint("short_trees", "a_package:FAMILY", "tidemill.families")
        monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == point.group else [])
        assert resolve_declared_spaces(load_spec(write("short_trees"), environ={})) == {"short_trees": {"maxDepth": [2, 3]}}
        with pytest.raises(SpecError, match=r"did you mean 'short_trees'\?; known: logistic_regression"):
            load_spec(write("short_trs"), environ={})
