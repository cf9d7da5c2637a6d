"""What the members of an ensemble say of rows that they have not seen: written to files fold by fold, and read as one frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from pyspark import inheritable_thread_target
from pyspark.sql import functions as F

from tidemill.families import IN_TASKS
from tidemill.learners.class_labels import class_metadata
from tidemill.training.engines import spark as mllib_fits
from tidemill.training.engines.predictions import write_unseen
from tidemill.training.engines.tasks import task_fit
from tidemill.training.ensembles.combined import member_column, predicted
from tidemill.training.folds import ORDER, Place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.training.problem import Problem
    from tidemill.training.tuning.search import Search
    from tidemill.training.tuning.tuner import Trial


_SIDE_BY_SIDE = 2
_SCHEMA = f"{ORDER} BIGINT, label DOUBLE, p ARRAY<DOUBLE>, member INT, fold INT"


def write_predictions(spark: SparkSession, finder: Search, members: Sequence[Trial], folds: Sequence[int], folder: str) -> None:
    """Fit each member once more a fold, and write what it says of the fold's rows below ``folder``.

    ``member=<place>/fold=<number>/…``: written by the workers that fitted it, or by Spark. Nothing of it comes to the driver. Where one
    fails, those that have not begun are left out.

    Raises:
        Exception: a member cannot be fitted again.
    """
    by_tasks = [place for place, trial in enumerate(members) if finder.engines.way(trial.family) == IN_TASKS]
    jobs: list[Callable[[], None]] = []
    if by_tasks:
        jobs.append(lambda: _by_tasks(spark, finder, {place: members[place] for place in by_tasks}, folds, folder))
    for place, trial in enumerate(members):
        if place not in by_tasks:
            jobs += [partial(_by_spark, finder, trial, fold, _place(folder, place, fold)) for fold in folds]
    wrapped = [inheritable_thread_target(spark)(job) for job in jobs]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        running = [pool.submit(job) for job in wrapped]
        try:
            for future in running:
                future.result()
        finally:
            for future in running:
                future.cancel()


def _by_tasks(spark: SparkSession, finder: Search, members: dict[int, Trial], folds: Sequence[int], folder: str) -> None:
    pairs = [(place, fold) for fold in folds for place in members]
    fits = [
        task_fit([members[place]], finder.folds.copied(Place(fold, members[place].variant)), finder.problem, limit=finder.limit)
        for place, fold in pairs
    ]
    write_unseen(spark, fits, [_place(folder, place, fold) for place, fold in pairs], ORDER)


def _by_spark(finder: Search, trial: Trial, fold: int, place: str) -> None:
    said = mllib_fits.predict_unseen(trial, finder.folds.vectors(Place(fold, trial.variant)), finder.problem, finder.limit)
    said.select(ORDER, "label", predicted(finder.problem.n_classes).alias("p")).write.mode("overwrite").parquet(place)


def _place(folder: str, member: int, fold: int) -> str:
    return f"{folder}/member={member}/fold={fold}"


def read_predictions(spark: SparkSession, members: int, folder: str, problem: Problem) -> DataFrame:
    """Return a row for each that all members speak of: ``fold``, ``label``, and a column a member.

    Rows are told apart by ``_order``, a hash of 64 bits of their key. Where two of a fold have the same one, which of a
    billion rows happens in one search of forty, both are left out.
    """
    said = spark.read.schema(_SCHEMA).parquet(folder)
    columns = [
        F.first(F.when(F.col("member") == place, F.col("p")), ignorenulls=True).alias(member_column(place)) for place in range(members)
    ]
    rows = said.groupBy("fold", ORDER).agg(F.count("*").alias("_said"), F.first("label").alias("label"), *columns)
    label = F.col("label")
    if problem.n_classes:
        label = label.alias("label", metadata=class_metadata(problem.n_classes))
    return rows.where(F.col("_said") == members).select("fold", label, *map(member_column, range(members)))
