"""Literals of SQL for numbers of any size."""

import math

import numpy as np
import pytest

from tidemill.quoting import format_double


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, "1.5D"),
        (-2.0, "(-2.0D)"),
        (-0.0, "(-0.0D)"),
        (1e308, "1e+308D"),
        (np.float64(0.1), "0.1D"),
        (3, "3.0D"),
        (math.inf, "double('Infinity')"),
        (-math.inf, "double('-Infinity')"),
        (math.nan, "double('NaN')"),
    ],
)
def test_every_double_has_a_literal(value, expected):
    assert format_double(value) == expected
