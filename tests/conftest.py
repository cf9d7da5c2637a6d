"""Fixtures for every test: one Spark session for the whole run, a scratch lake a test."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tidemill.lake import Lake
from tidemill.steps.result import StepContext

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from tests.spark.sources.kafka_broker import Broker, Client


# PySpark takes a process whose main module has no file, such as a worker of the suite, for its own doctests, and ends it.
if getattr(sys.modules["__main__"], "__file__", None) is None:
    sys.modules["__main__"].__file__ = __file__

# Tests start many Java processes and give each of them little to do, which seldom repays the slow compiler.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of the whole test run: two cores, two partitions, no UI."""
    from tidemill.session import get_spark

    warehouse = tempfile.mkdtemp(prefix="tidemill-tests-")
    session = get_spark(
        "tidemill-tests",
        {
            "spark.master": "local[2]",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.memory": "2g",
            "spark.sql.warehouse.dir": warehouse,
        },
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka broker that runs for as long as the tests do; those that use it are in the group ``kafka``."""
    from tests.spark.sources.kafka_broker import Broker, NoBrokerError

    try:
        running = Broker(tmp_path_factory.mktemp("kafka"))
    except NoBrokerError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(spark: SparkSession, broker: Broker) -> Iterator[Client]:
    """What makes topics and messages at the broker."""
    from tests.spark.sources.kafka_broker import Client

    made = Client(spark, broker.url)
    yield made
    made.close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake of the test's own."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def make_context(spark: SparkSession, lake: Lake, tmp_path: Path) -> Callable[..., StepContext]:
    """Make the context of one step from a spec, given as a dict or loaded."""

    def make(spec: Any, node: str, inputs: Mapping[str, int] | None = None, run_id: str = "r1") -> StepContext:
        from tidemill.session import child_session
        from tidemill.spec import Spec
        from tidemill.spec.models import Pipeline

        if not isinstance(spec, Spec):
            spec = Spec(pipeline=Pipeline.model_validate(spec), file=tmp_path / "pipeline.yml", folder=tmp_path)
        return StepContext(spark=child_session(spark), spec=spec, lake=lake, inputs=dict(inputs or {}), run_id=run_id, node=node)

    return make


@pytest.fixture(autouse=True)
def _no_surprises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own settings out of the tests."""
    for name in [name for name in os.environ if name.startswith("TIDEMILL_")]:
        monkeypatch.delenv(name)
