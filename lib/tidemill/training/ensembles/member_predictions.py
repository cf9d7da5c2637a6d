"""Out-of-fold predictions of the members of an ensemble: written to files by fold, and read as one DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from pyspark import inheritable_thread_target
from pyspark.sql import functions as F

from tidemill.families import IN_TASKS
from tidemill.learners.class_labels import class_metadata
from tidemill.training.engines.predictions import write_held_out_predictions
from tidemill.training.engines.spark import predict_held_out
from tidemill.training.engines.tasks import build_fit
from tidemill.training.ensembles.combined import build_prediction_array, member_column
from tidemill.training.folds import ORDER, FoldVariant

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.training.problem import Problem
    from tidemill.training.tuning.search import Search
    from tidemill.training.tuning.tuner import Trial


_PARALLEL_JOBS = 2
_SCHEMA = f"{ORDER} BIGINT, label DOUBLE, p ARRAY<DOUBLE>, member INT, fold INT"


def write_predictions(spark: SparkSession, search: Search, members: Sequence[Trial], folds: Sequence[int], folder: str) -> None:
    """Fit each member again on each fold, and write its predictions of the held-out rows below ``folder``.

    The files ``member=<position>/fold=<number>/…`` are written by the workers that fitted the member, or by Spark; no prediction comes to
    the driver. After a failure, fits that have not started are cancelled.

    Raises:
        Exception: a member cannot be fitted again.
    """
    by_tasks = [position for position, trial in enumerate(members) if search.engines.engine_of(trial.family) == IN_TASKS]
    jobs: list[Callable[[], None]] = []
    if by_tasks:
        jobs.append(lambda: _fit_by_tasks(spark, search, {position: members[position] for position in by_tasks}, folds, folder))
    for position, trial in enumerate(members):
        if position not in by_tasks:
            jobs += [partial(_fit_by_spark, search, trial, fold, _prediction_folder(folder, position, fold)) for fold in folds]
    wrapped = [inheritable_thread_target(spark)(job) for job in jobs]
    with ThreadPoolExecutor(_PARALLEL_JOBS) as pool:
        running = [pool.submit(job) for job in wrapped]
        try:
            for future in running:
                future.result()
        finally:
            for future in running:
                future.cancel()


def _fit_by_tasks(spark: SparkSession, search: Search, members: dict[int, Trial], folds: Sequence[int], folder: str) -> None:
    pairs = [(position, fold) for fold in folds for position in members]
    fits = [
        build_fit(
            [members[position]], search.folds.task_vectors(FoldVariant(fold, members[position].variant)), search.problem, limit=search.limit
        )
        for position, fold in pairs
    ]
    write_held_out_predictions(spark, fits, [_prediction_folder(folder, position, fold) for position, fold in pairs], ORDER)


def _fit_by_spark(search: Search, trial: Trial, fold: int, folder: str) -> None:
    predictions = predict_held_out(trial, search.folds.spark_vectors(FoldVariant(fold, trial.variant)), search.problem, search.limit)
    predictions.select(ORDER, "label", build_prediction_array(search.problem.n_classes).alias("p")).write.mode("overwrite").parquet(folder)


def _prediction_folder(folder: str, member: int, fold: int) -> str:
    return f"{folder}/member={member}/fold={fold}"


def read_predictions(spark: SparkSession, members: int, folder: str, problem: Problem) -> DataFrame:
    """Return one row per row that all members have predicted: ``fold``, ``label``, and one column per member.

    Rows are identified by ``_order``, a 64-bit hash of their key. Two rows of a fold with the same hash are both left out; among a
    billion rows this happens in one search of forty.
    """
    predictions = spark.read.schema(_SCHEMA).parquet(folder)
    columns = [
        F.first(F.when(F.col("member") == position, F.col("p")), ignorenulls=True).alias(member_column(position))
        for position in range(members)
    ]
    rows = predictions.groupBy("fold", ORDER).agg(F.count("*").alias("_members"), F.first("label").alias("label"), *columns)
    label = F.col("label")
    if problem.n_classes:
        label = label.alias("label", metadata=class_metadata(problem.n_classes))
    return rows.where(F.col("_members") == members).select("fold", label, *map(member_column, range(members)))
