import subprocess
import sys

import pytest
from pyspark.errors import AnalysisException

from tidemill.column_names import describe_renamings, is_added, list_table_columns, rename_columns
from tidemill.errors import did_you_mean
from tidemill.runtime.spark_errors import format_spark_error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_source_file", True),
        ("_Rescued", True),
        ("_batch_id", True),
        ("_tidemill_rules", True),
        ("_c0", False),
        ("_raw", False),
        ("_rules", False),
        ("_source_line", False),
        ("_", False),
        ("__typename", False),
        ("source_file", False),
    ],
)
def test_only_what_tidemill_adds_is_reserved(name: str, expected: bool) -> None:
    assert is_added(name) is expected


def test_a_table_refuses_some_characters_and_empty_names() -> None:
    headers = ["id", "price (EUR)", "", "a,b;c", "x=1", "{y}", "tab\tend\n", "dot.ted", "Größe"]
    assert list_table_columns(headers) == ["id", "price__EUR_", "_c2", "a_b_c", "x_1", "_y_", "tab_end_", "dot.ted", "Größe"]
    assert rename_columns(["id", "price (EUR)", ""]) == {"price (EUR)": "price__EUR_", "": "_c2"}


def test_names_need_no_spark() -> None:
    code = "import sys, tidemill.column_names; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_header_is_told_its_name_in_the_table() -> None:
    told = did_you_mean("price (EUR)", ["id", "price__EUR_"])
    assert told == "; a table calls it 'price__EUR_', as it takes no space, (, ) in a name"
    assert did_you_mean("prise__EUR_", ["id", "price__EUR_"]) == "; did you mean 'price__EUR_'?"
    error = AnalysisException(
        "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column, variable, or function parameter with name `t`.`price (EUR)` cannot be resolved. "
        "Did you mean one of the following? [`id`, `price__EUR_`]. SQLSTATE: 42703"
    )
    assert format_spark_error(error).endswith("[`id`, `price__EUR_`]. ('price (EUR)' is called price__EUR_ in tables)")


def test_renamed_headers_are_remarked_on() -> None:
    (note,) = describe_renamings(["id", "price (EUR)", ""])
    assert note.endswith("in a name: 'price (EUR)' is price__EUR_, '' is _c2")
    assert describe_renamings(["id", "_c0"]) == ()
