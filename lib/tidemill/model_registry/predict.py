"""Predictions of a saved model for rows that have its feature columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import functions as F

from tidemill.column_names import INTERNAL
from tidemill.columns import NOT_SCORED, column
from tidemill.errors import UsageError, did_you_mean
from tidemill.exact_cast import exact_cast
from tidemill.runtime.user_code import contain_exit

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import Column, DataFrame

    from tidemill.model_registry.manifest import Manifest


_OUTPUT = f"{INTERNAL}output_"
_CAST_ERROR = "_tidemill_cast_error"
OUTPUTS = ("prediction", "probability", "score_error")


def predict(model: PipelineModel, manifest: Manifest, df: DataFrame, also: Sequence[str] = ()) -> DataFrame:
    """Add ``prediction``, ``probability`` and ``score_error`` to the rows of ``df``; every row stays, and every column.

    ``also`` are further columns to add that the model's stages make; they are null where the row was not scored.

    - ``prediction`` has the label's own type for classification and anomalies, INT for clusters, DOUBLE for regression and recommendation.
    - ``probability`` is a DOUBLE, that of the positive class (binary), an ARRAY<DOUBLE> in the order of the classes (multiclass), or
      a null DOUBLE (regression, recommendation). For anomalies it is the share of training rows with a lower anomaly score; for clusters an
      ARRAY<DOUBLE>, the probability of each, null if the family has none.
    - ``score_error`` is null if the row was scored; else it gives the reason, and both others are null.

    Feature columns of another type are cast to the type of the training, if the cast is exact. Existing columns with the names of the three
    are replaced.

    Raises:
        UsageError: a feature column of the model is missing.
    """
    scored, every = _transform(model, manifest, df)
    places = {name: place for name, place in every.items() if name not in OUTPUTS}
    index, probability = F.col("prediction").cast("double"), _probability_array(manifest, has_any="probability" in scored.columns)
    bad = _is_bad(index)
    if probability is not None:
        bad = bad | probability.isNull() | F.exists(probability, _is_bad)
    value = _decode_prediction(manifest, index)
    score_error = F.coalesce(
        F.col(_CAST_ERROR),
        *([F.col(NOT_SCORED)] if NOT_SCORED in scored.columns else []),
        F.when(bad, F.lit("the model returned no number for this row")),
        F.when(value.isNull(), F.concat(F.lit("the model returned an unknown class: "), index.cast("string"))),
    )
    shown = _probability_output(manifest, probability)
    outputs = scored.select(
        *places.values(), value.alias("prediction"), shown.alias("probability"), score_error.alias("score_error"), *also
    )
    return outputs.select(
        *[F.col(place).alias(name) for name, place in places.items()],
        F.when(F.col("score_error").isNull(), F.col("prediction")).alias("prediction"),
        F.when(F.col("score_error").isNull(), F.col("probability")).alias("probability"),
        F.col("score_error"),
        *[F.when(F.col("score_error").isNull(), F.col(name)).alias(name) for name in also],
    )


@dataclass(frozen=True)
class EvaluationColumns:
    """The columns of `evaluation_rows`: the label and the weight of the dataset, and further ones.

    ``carried`` are kept as they are; ``terms`` are numbers of a row in SQL over ``label``, ``prediction`` and ``probability`` as
    predictions have them, ``weight``, and the columns of the rows.
    """

    label: str
    weight: str | None = None
    carried: Sequence[str] = ()
    terms: Sequence[str] = ()


class EvaluationRows(NamedTuple):
    """Rows to evaluate: what metrics are computed from, and the same rows with the names that SQL uses."""

    rows: DataFrame
    named: DataFrame


def evaluation_rows(model: PipelineModel, manifest: Manifest, df: DataFrame, columns: EvaluationColumns) -> EvaluationRows:
    """Return the labelled rows with their predictions.

    Returns:
        The input of metrics: ``label`` and ``prediction`` DOUBLE, for classification ``probability`` VECTOR, ``weight`` DOUBLE, the carried
        columns, and ``terms`` ARRAY<DOUBLE>; and the same rows with the names that SQL uses.
    """
    scored, places = _transform(model, manifest, df)
    return _select_evaluation(manifest, scored, places, columns)


def constant_evaluation_rows(
    prediction: float, probability: Sequence[float] | None, manifest: Manifest, df: DataFrame, columns: EvaluationColumns
) -> EvaluationRows:
    """Return what `evaluation_rows` does for a model that predicts the same for every row; ``prediction`` is an index or a value."""
    places = {name: f"_tidemill_{place}" for place, name in enumerate(df.columns)}
    constant = [F.lit(prediction).alias("prediction")]
    if probability is not None:
        constant.append(array_to_vector(F.array(*[F.lit(float(share)) for share in probability])).alias("probability"))
    return _select_evaluation(
        manifest, df.select(*[column(name).alias(place) for name, place in places.items()], *constant), places, columns
    )


def _select_evaluation(manifest: Manifest, scored: DataFrame, places: Mapping[str, str], columns: EvaluationColumns) -> EvaluationRows:
    label, index = F.col(places[columns.label]), F.col("prediction").cast("double")
    weight = F.col(places[columns.weight]).cast("double") if columns.weight else F.lit(1.0)
    has_probability = not manifest.kind.predicts_number
    probability = _probability_output(manifest, _probability_array(manifest, has_any="probability" in scored.columns))
    named = {"label": label, "prediction": _decode_prediction(manifest, index), "probability": probability, "weight": weight}
    own = [F.col(place).alias(name) for name, place in places.items() if name.lower() not in named]
    inner = [encode_label(manifest, label).alias(f"{_OUTPUT}label"), index.alias(f"{_OUTPUT}prediction")]
    inner += [F.col("probability").alias(f"{_OUTPUT}probability")] if has_probability else []
    frame = scored.select(*own, *[value.alias(name) for name, value in named.items()], *inner)
    frame = frame.where(F.col(f"{_OUTPUT}label").isNotNull())
    terms = F.array(*[F.expr(term).cast("double") for term in columns.terms]).cast("array<double>").alias("terms")
    outputs = [F.col(f"{_OUTPUT}{name}").alias(name) for name in ("label", "prediction", *(["probability"] if has_probability else []))]
    return EvaluationRows(frame.select(*outputs, "weight", *[column(name) for name in columns.carried], terms), frame)


def model_outputs(model: PipelineModel, manifest: Manifest, df: DataFrame, columns: Sequence[str], outputs: Sequence[str]) -> DataFrame:
    """Return columns of the rows together with columns that the model's stages add."""
    scored, places = _transform(model, manifest, df)
    return scored.select(*[F.col(places[name]).alias(name) for name in columns], *outputs)


def encode_label(manifest: Manifest, label: Column) -> Column:
    """Return the label for metrics: the index of its class, or its value; an unknown class has the index after the last.

    A null label stays null; NaN becomes null if the label is a number.
    """
    if manifest.classes is None:
        value = label.cast("double")
        return F.when(~F.isnan(value), value)
    position = F.coalesce(F.array_position(_classes(manifest), label.try_cast(manifest.label_type)), F.lit(0))
    return F.when(position > 0, position - 1).when(label.isNotNull(), manifest.n_classes).cast("double")


def _transform(model: PipelineModel, manifest: Manifest, df: DataFrame) -> tuple[DataFrame, dict[str, str]]:
    """Apply the model to the feature columns, cast if needed; return the frame and the names of the caller's columns in it.

    They get internal names, so that none conflicts with a column that the stages add.
    """
    _require_columns(manifest, df)
    types = {field.name: field.dataType.simpleString() for field in df.schema.fields}
    wrong = {name: target_type for name, target_type in manifest.feature_columns.items() if types[name] != target_type}
    cast = {name: exact_cast(column(name), df.schema[name].dataType, target_type) for name, target_type in wrong.items()}
    places = {name: f"_tidemill_{place}" for place, name in enumerate(df.columns)}
    features = [cast[name].alias(name) if name in cast else column(name) for name in manifest.feature_columns]
    error = F.coalesce(*[_cast_error(name, cast[name], target_type) for name, target_type in wrong.items()], F.lit(None).cast("string"))
    # The error comes last and is not a struct of all columns: for an expression before the aliases of its n columns, Catalyst would derive
    # 2^n constraints.
    renamed = [column(name).alias(place) for name, place in places.items()]
    with contain_exit(f"a stage of model {manifest.version}"):
        return model.transform(df.select(*renamed, *features, error.alias(_CAST_ERROR))), places


def _is_bad(value: Column) -> Column:
    return value.isNull() | F.isnan(value) | (F.abs(value) == float("inf"))


def _require_columns(manifest: Manifest, df: DataFrame) -> None:
    missing = [name for name in manifest.feature_columns if name not in df.columns]
    if missing:
        hint = did_you_mean(missing[0], df.columns) if len(missing) == 1 else ""
        raise UsageError(
            f"model {manifest.version} of {manifest.pipeline} needs the columns {', '.join(missing)}, which the rows to score lack{hint}; "
            f"they have {', '.join(name for name in df.columns if not name.startswith(INTERNAL))}"
        )


def _cast_error(name: str, cast: Column, target_type: str) -> Column:
    shown_value = F.substring(column(name).cast("string"), 1, 50)
    message = F.concat(F.lit(f"{name}: '"), shown_value, F.lit(f"' is not a value of type {target_type}"))
    return F.when(column(name).isNotNull() & cast.isNull(), message)


def _probability_array(manifest: Manifest, *, has_any: bool) -> Column | None:
    """Return the probabilities as an array, None if the model has none."""
    return vector_to_array(F.col("probability")) if has_any and not manifest.kind.predicts_number else None


def _probability_output(manifest: Manifest, probability: Column | None) -> Column:
    """Return ``probability`` in the task's output type."""
    if probability is None:
        return F.lit(None).cast("array<double>" if manifest.kind.finds_clusters else "double")
    return F.get(probability, F.lit(1)) if manifest.kind.has_positive_class else probability


def _classes(manifest: Manifest) -> Column:
    return F.array(*[F.lit(value).cast(manifest.label_type) for value in manifest.classes or ()])


def _decode_prediction(manifest: Manifest, index: Column) -> Column:
    """Return the class in the label's type, null for an unknown index; a number stays a DOUBLE, whatever the label's type.

    The expected value of a count is not a whole number: 0.3 claims a year must not become 0.
    """
    if manifest.kind.has_numeric_label:
        return index
    if manifest.classes is not None:
        return F.get(_classes(manifest), F.when(~_is_bad(index), index).cast("int"))
    return index.try_cast(manifest.label_type)
