"""Fixtures for every test: one Spark session a worker, tuned for tiny data, and a scratch lake a test; tiers and their order."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import cpu_budget, tiers

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

# For rows by the dozen. What users have is tested where commands run in processes of their own: tests/e2e.
TINY_DATA = {
    "spark.default.parallelism": "1",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    # A plan that is made anew after each stage, and Java source that is written, compiled and run once, cost more than they save.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--cpu`` and ``--sample``."""
    cpu_budget.add_options(parser)
    tiers.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Measure the CPU of each test where the kernel tells it."""
    if cpu_budget.is_supported():
        config.pluginmanager.register(cpu_budget.CpuBudget())


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow tier, choose a sample of it, and put what takes long first."""
    tiers.prepare_items(config, items)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of a worker: one that has worked before the first test begins, so that no test pays for Java's start."""
    from tidemill.runtime.session import get_spark

    conf = {
        "spark.master": "local[2]",  # so that what needs two tasks at once, such as a barrier, can be tested
        "spark.driver.memory": "2g",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -Xmn384m",
        "spark.sql.warehouse.dir": tempfile.mkdtemp(prefix="tidemill-tests-"),
    }
    session = get_spark("tidemill-tests", conf | TINY_DATA)
    is_own = session.sparkContext.getConf().get("spark.default.parallelism") == TINY_DATA["spark.default.parallelism"]
    assert is_own, "a test that ran before started Spark without this fixture"
    _warm_up(session)
    yield session
    session.stop()


def _warm_up(spark: SparkSession) -> None:
    """Load what most tests need: Delta, a Python worker, a shuffle."""
    from pyspark.sql import functions as F

    with tempfile.TemporaryDirectory(prefix="tidemill-warm-up-") as folder:
        frame = spark.createDataFrame([(1, "a"), (2, "b")], "id INT, name STRING").groupBy("name").agg(F.max("id").alias("id"))
        frame.write.format("delta").save(f"{folder}/t")
        spark.read.format("delta").load(f"{folder}/t").toPandas()


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
        from tidemill.runtime.session import child_session
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
