"""The label of the rows that features are fitted on, where they are learnt from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.errors import StepError

LABEL = "label"


@dataclass(frozen=True)
class Label:
    """The column ``label`` DOUBLE: the index of a class, of which there are ``classes``, or, where there are none, a number."""

    classes: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """True where the label is a number."""
        return not self.classes

    @property
    def suffixes(self) -> list[str]:
        """What tells the slots of one column apart: there is one for a number and for two classes, else one a class."""
        return [""] if len(self.classes) <= 2 else [f"={name}" for name in self.classes]

    @property
    def means(self) -> list[Column]:
        """What is averaged for each suffix: the number, or whether the row is of the class (of two, of the second)."""
        label = F.col(LABEL)
        if self.is_number:
            return [label]
        wanted = [1] if len(self.classes) == 2 else range(len(self.classes))
        return [(label == index).cast("double") for index in wanted]


def label_of(df: DataFrame, names: Sequence[str]) -> Label:
    """Return the label of ``df``; its metadata say how many classes there are, and ``names`` what they are called.

    Raises:
        StepError: there is no label.
    """
    if LABEL not in df.columns:
        raise StepError("features that are learnt from the label need the column `label`; these rows have none")
    count = int(df.schema[LABEL].metadata.get("ml_attr", {}).get("num_vals", 0))
    return Label(tuple(names) if len(names) == count else tuple(str(index) for index in range(count)))
