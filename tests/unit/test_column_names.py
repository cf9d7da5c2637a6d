import subprocess
import sys

import pytest

from tidemill.column_names import is_added, renamed_columns, table_columns


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
    assert table_columns(headers) == ["id", "price__EUR_", "_c2", "a_b_c", "x_1", "_y_", "tab_end_", "dot.ted", "Größe"]
    assert renamed_columns(["id", "price (EUR)", ""]) == {"price (EUR)": "price__EUR_", "": "_c2"}


def test_names_need_no_spark() -> None:
    code = "import sys, tidemill.column_names; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
