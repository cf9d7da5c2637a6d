"""A kind of source that is written outside the project: named by a dotted path or an entry point, checked by its own model."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from textwrap import dedent

import pytest

from tidemill import extensions
from tidemill.spec import load_spec
from tidemill.spec.models import SOURCE_KINDS, Source

CODE = """
    from pydantic import BaseModel, ConfigDict, Field

    from tidemill.spec.models.source_kinds import FileKind


    class Options(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        width: int = Field(ge=1)


    class FixedWidth(FileKind):
        options_model = Options
        suffixes = (".fix",)

        def known_columns(self, source):
            return {"code": "string"}


    class Reader:
        takes_empty_files = True

        def infer(self, spark, source, files):
            raise NotImplementedError

        def read(self, spark, source, files, schema):
            raise NotImplementedError


    class Nothing:
        pass
"""
SOURCE = """\
    format: csv
    path: ${DATA:-./data}/*.csv
    options: {header: true}
    load: incremental
"""


@pytest.fixture
def declare(tmp_path, changed):
    (tmp_path / "functions.py").write_text(dedent(CODE))

    def _declare(**keys: str) -> str:
        return changed(SOURCE, "".join(f"    {key}: {value}\n" for key, value in keys.items()))

    return _declare


class TestOwnSourceKind:
    def test_is_found_beside_the_spec(self, write, declare):
        spec = load_spec(write(declare(format="functions.FixedWidth", path="a.fix", options="{width: 3}")), environ={})
        source = spec.pipeline.sources["flights"]
        kind = SOURCE_KINDS.get(source.format, spec.folder)
        assert (kind.name, kind.known_columns(source)) == ("functions.FixedWidth", {"code": "string"})
        assert not source.always_poll

    @pytest.mark.parametrize(
        ("keys", "line", "key", "message"),
        [
            ({"path": "a.fix", "options": "{width: none}"}, 7, "options.width", "Input should be a valid integer"),
            ({"path": "a.fix", "options": "{width: 3, wdith: 3}"}, 7, "options.wdith", "Extra inputs are not permitted"),
            ({"options": "{width: 3}"}, 4, "path", "missing; `format: functions.FixedWidth` reads files"),
        ],
    )
    def test_has_its_options_checked_with_their_line(self, faults, declare, keys, line, key, message):
        [(found_line, found_key, text)] = faults(declare(format="functions.FixedWidth", **keys))
        assert (found_line, found_key) == (line, f"sources.flights.{key}")
        assert text.startswith(message)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("functions.Missing", "defines no 'Missing'"),
            ("functions.Nothing", "expected a FileKind, a QueryKind, a DataSource, or a class with `infer`"),
        ],
    )
    def test_that_cannot_be_used_is_a_fault_of_its_line(self, faults, declare, name, message):
        [(line, key, text)] = faults(declare(format=name, path="a.fix"))
        assert (line, key) == (5, "sources.flights.format")
        assert message in text

    def test_may_be_a_class_that_only_reads(self, write, declare):
        spec = load_spec(write(declare(format="functions.Reader", path="a.fix")), environ={})
        kind = SOURCE_KINDS.get("functions.Reader", spec.folder)
        assert (kind.reads_files, kind.takes_empty_files, kind.tells_columns_by_record) == (True, True, False)

    def test_is_found_by_the_entry_point_of_a_package(self, monkeypatch, write, changed, tmp_path):
        (tmp_path / "fixed_width_package.py").write_text(dedent(CODE))
        monkeypatch.syspath_prepend(str(tmp_path))
        point = EntryPoint("fixed", "fixed_width_package:FixedWidth", "tidemill.sources")
        monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == point.group else [])
        spec = load_spec(write(changed(SOURCE, "    format: fixed\n    path: a.fix\n    options: {width: 3}\n")), environ={})
        assert SOURCE_KINDS.get(spec.pipeline.sources["flights"].format).name == "fixed"
        assert SOURCE_KINDS.names[-1] == "fixed"


class TestBuiltInKinds:
    def test_declare_what_validation_and_ingest_ask(self):
        kinds = SOURCE_KINDS.all_built_in()
        assert list(kinds) == ["csv", "tsv", "json", "parquet", "orc", "avro", "xml", "text", "binaryFile", "delta", "jdbc", "kafka"]
        assert {name for name, kind in kinds.items() if not kind.reads_files} == {"delta", "jdbc", "kafka"}
        assert {name for name, kind in kinds.items() if not kind.needs_path} == {"jdbc", "kafka"}
        assert {name for name, kind in kinds.items() if getattr(kind, "has_types", False)} == {"parquet", "orc", "avro"}
        assert {name for name, kind in kinds.items() if getattr(kind, "is_text", False)} == {"csv", "tsv", "json", "text", "xml"}

    def test_are_asked_without_spark(self):
        import subprocess
        import sys

        code = (
            "import sys; from tidemill.spec.models import SOURCE_KINDS, Source; SOURCE_KINDS.all_built_in(); "
            "Source(format='delta', path='a').always_poll or sys.exit('delta'); sys.exit('pyspark' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        assert Source(format="kafka", url="h:1", table="t").always_poll
