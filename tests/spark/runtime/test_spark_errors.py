"""What Python and the machine do to Spark's workers, as one sentence."""

import os
import subprocess
import sys

import pytest
from pyspark.sql import functions as F

from tidemill.runtime.spark_errors import format_spark_error

TWICE = """
import os, sys
from tidemill.runtime.session import get_spark

spark = get_spark("twice", {"spark.sql.shuffle.partitions": "1", "spark.driver.memory": "512m"})
mark = sys.argv[1]

def work(batches):
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), 9)
    yield from batches

print(spark.range(5).mapInArrow(work, "id BIGINT").count(), spark.conf.get("spark.master"))
"""


def test_what_a_worker_raised_and_where_it_did(spark):
    def told(body):
        def work(batches):
            body()
            yield from batches

        with pytest.raises(Exception) as raised:
            spark.range(1).mapInArrow(work, "id BIGINT").collect()
        return format_spark_error(raised.value)

    def fails():
        raise ValueError("no such\nthing")

    def allocates():
        import numpy as np

        np.ones((10**7, 10**7))

    assert "it called sys.exit(0) (test_spark_errors.py, line" in told(lambda: sys.exit(0))
    assert told(fails).startswith("ValueError: no such (test_spark_errors.py, line") and told(fails).endswith("in fails)")
    assert "no memory left: ArrayMemoryError: Unable to allocate" in told(allocates)
    assert "a Python worker of Spark ended without a word" in told(lambda: os.kill(os.getpid(), 9))
    with pytest.raises(Exception, match="CAST_INVALID_INPUT") as raised:
        spark.range(1).select(F.lit("x").cast("int")).collect()
    assert format_spark_error(raised.value).startswith("The value 'x' of the type")


@pytest.mark.one_of("kill")
@pytest.mark.slow
def test_a_lost_worker_is_tried_once_more(tmp_path):
    environment = {**os.environ, "TIDEMILL_MASTER": "local[1]"}
    run = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path / "mark")], capture_output=True, text=True, env=environment, check=True, timeout=300
    )
    assert run.stdout.split() == ["5", "local[1,2]"]
