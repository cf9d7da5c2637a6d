"""Faults of the machine in the words of what raises them, and user code that ends its process."""

import pytest

from tidemill.errors import StepError
from tidemill.runtime.machine_faults import describe_machine_fault, is_lost_worker
from tidemill.runtime.user_code import contain_exit
from tidemill.workflow.error_messages import format_error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Errno 28] No space left on device: '/tmp/lake/x'", "no space is left on the disk of /tmp/lake/x; free some"),
        ("Task failed while writing rows to file:/lake/t. SQLSTATE\njava.io.IOException: No space left on device", "disk of /lake/t; free"),
        (
            "Generic LocalFileSystem error: Unable to copy: No space left on device (os error 28)",
            "no space is left on the disk, the lake's or that of temporary files; free",
        ),
        (
            "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider",
            "a Python worker of Spark ended without",
        ),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9 TiB",
            "no memory left: ArrayMemoryError: Unable to allocate 9 TiB;",
        ),
        ("MemoryError", "Python has no memory left: MemoryError; run fewer tasks at once"),
        ("java.lang.OutOfMemoryError: Java heap space", "Java has no memory left (Java heap space); give it more: `spark.driver.memory`"),
    ],
)
def test_each_has_a_cause_and_a_remedy(text, expected):
    assert expected in describe_machine_fault(text)


def test_what_is_no_fault_of_the_machine_has_none():
    assert describe_machine_fault("ValueError: the column memory is null") is None
    assert not is_lost_worker("MemoryError")


def test_an_exit_is_a_failure_that_names_the_line_and_other_errors_stay():
    def leaves():
        raise SystemExit("bye")

    with (
        pytest.raises(
            StepError, match=r"functions\.f called sys\.exit\('bye'\) \(test_machine_faults\.py, line \d+, in leaves\); it must return"
        ),
        contain_exit("functions.f"),
    ):
        leaves()
    for stays in (KeyboardInterrupt, ValueError):
        with pytest.raises(stays), contain_exit("functions.f"):
            raise stays
    assert format_error(MemoryError()).startswith("Python has no memory left: MemoryError; run")
