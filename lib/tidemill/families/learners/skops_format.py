"""Models of scikit-learn in the format of skops: nothing but scikit-learn's and numpy's own types is made of a file."""

from __future__ import annotations

from typing import Any

import numpy as np

_TRUSTED = ("sklearn", "numpy")


def dumped(model: Any, n_classes: int) -> bytes:
    """Return the model, and how many classes its problem has."""
    from skops import io

    return bytes(io.dumps((model, n_classes)))


def loaded(dump: bytes) -> tuple[Any, int]:
    """Return what ``dumped`` wrote.

    Raises:
        Exception: it holds a type that is neither scikit-learn's nor numpy's.
    """
    from skops import io

    found = io.get_untrusted_types(data=dump)
    own = [name for name in found if name.partition(".")[0] in _TRUSTED or name == "functools.partial"]
    model, n_classes = io.loads(dump, trusted=own)
    return model, n_classes


def spread(found: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the probabilities with a column for each class, also for one that no row had."""
    if found.shape[1] == n_classes:
        return found
    whole = np.zeros((len(found), n_classes))
    whole[:, classes.astype(int)] = found
    return whole
