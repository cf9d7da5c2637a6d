"""The labels of categorical columns, learnt for all of them in one aggregate."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.ml.feature import OneHotEncoder, OneHotEncoderModel, StringIndexer, StringIndexerModel
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from tidemill.features.names import internal
from tidemill.lake.names import quoted

# The most frequent labels that get a slot of their own. A tree's `maxBins`, and with it the time and memory of each node, grows with its
# widest category; 255 is also where scikit-learn's histogram trees stop.
MOST_LABELS = {"onehot": 10_000, "index": 255}


def label_column(style: str, name: str) -> str:
    """Return the column that holds the value of ``name`` as text, to be encoded in the ``style`` onehot or index."""
    return internal(f"{style}label", name)


def fit_labels(df: DataFrame, names: Sequence[str], styles: Sequence[str], min_frequency: int) -> StringIndexerModel:
    """Learn the labels of the columns seen at least ``min_frequency`` times; in ``df`` they are ``label_column(style, name)``.

    Labels are ordered by their text, as scikit-learn has them; null, rare and unseen values share the index behind the last label.
    """
    columns = [F.col(quoted(label_column(styles[0], name))) for name in names]
    values = [F.struct(F.lit(place).alias("place"), column.alias("value")) for place, column in enumerate(columns)]
    counts = (
        df.select(F.explode(F.array(*values)).alias("seen"))
        .select("seen.place", "seen.value")
        .where("value IS NOT NULL")
        .groupBy("place", "value")
        .agg(F.count("*").alias("n"))
        .where(F.col("n") >= min_frequency)
    )
    most_frequent_first = Window.partitionBy("place").orderBy(F.desc("n"), "value")
    ranked = counts.select("place", "value", F.row_number().over(most_frequent_first).alias("rank"))
    encoded = [(style, place, name) for style in styles for place, name in enumerate(names)]
    # One column a label set, null where a value is none of its labels: the form in which one fit takes in all of them.
    labels = ranked.select(
        *[
            F.when((F.col("place") == place) & (F.col("rank") <= MOST_LABELS[style]), F.col("value")).alias(label_column(style, name))
            for style, place, name in encoded
        ]
    )
    return StringIndexer(
        inputCols=[label_column(style, name) for style, _, name in encoded],
        outputCols=[internal(style, name) for style, _, name in encoded],
        stringOrderType="alphabetAsc",
        handleInvalid="keep",
    ).fit(labels)


def fit_one_hot(df: DataFrame, names: Sequence[str], indexer: StringIndexerModel) -> OneHotEncoderModel:
    """Return the one-hot stage, a slot for each label and one for all else; read from the indexer's attributes, without a job."""
    inputs, outputs = [internal("onehot", name) for name in names], [internal("hot", name) for name in names]
    return OneHotEncoder(inputCols=inputs, outputCols=outputs, dropLast=False).fit(indexer.transform(df))
