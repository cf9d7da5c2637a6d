"""How much of the cluster is asked for."""

from types import SimpleNamespace

import pytest

from tidemill.errors import UsageError
from tidemill.families import FAMILIES
from tidemill.runtime.session import TASK_SLOTS, child_session, task_slots
from tidemill.steps.ingest.staged_records import max_partitions


def test_the_scheduler_says_how_many_tasks_run_at_once_whatever_shuffles_are_parted_into(spark, monkeypatch):
    session = child_session(spark)
    session.conf.set("spark.sql.shuffle.partitions", "200")
    assert task_slots(session) == 2  # of local[2]
    assert max_partitions(SimpleNamespace(spark=session), 1000) == 2
    monkeypatch.setattr("pyspark.sql.SparkSession.active", lambda: session)
    params = {"n_estimators": 2}
    built = FAMILIES.get("xgboost").build_estimator(params, task="binary", n_classes=2, seed=7, max_categories=2)
    assert built.getOrDefault(built.num_workers) == 2
    session.conf.set(TASK_SLOTS, "7")
    assert task_slots(session) == 7
    session.conf.set(TASK_SLOTS, "many")
    with pytest.raises(UsageError, match="'many'; expected a whole number from 1"):
        task_slots(session)
