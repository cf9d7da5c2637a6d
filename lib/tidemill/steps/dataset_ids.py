"""The two columns of a dataset that say who and what, of the task recommendation."""

from __future__ import annotations

from pyspark.sql import types as T

from tidemill.errors import Fault, did_you_mean
from tidemill.spec.models import Training

_NO_ID = (T.ArrayType, T.MapType, T.StructType, T.NullType, T.VariantType)


def id_faults(schema: T.StructType, training: Training) -> list[Fault]:
    """Return a fault for each of ``training.user`` and ``training.item`` that the dataset lacks, or whose type names nobody."""
    faults = []
    for key, name in (("user", training.user), ("item", training.item)):
        if name is None:
            continue
        if name not in schema.names:
            message = f"column {name!r} is not in the dataset{did_you_mean(name, schema.names)}"
        elif isinstance(schema[name].dataType, _NO_ID):
            message = f"{name} is of type {schema[name].dataType.simpleString()}, expected an id: a string, a number, a date"
        else:
            continue
        faults.append(Fault("pipeline.yml", None, f"training.{key}", message))
    return faults
