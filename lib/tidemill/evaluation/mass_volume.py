"""The quality of an anomaly score when no row has a label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# The most rows that are scored, and the number of points drawn around them.
MAX_ROWS = 10_000
POINTS = 10_000
# The range of the share of rows in the region that counts as normal.
MIN_MASS, MAX_MASS = 0.9, 0.999
# In more dimensions nearly the whole box is empty, and all scores look the same.
MAX_VARIED_SLOTS = 5


def mass_volume(strangeness: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, seed: int) -> float:
    """Return the mean volume of the regions that hold the least strange rows, from 0 to 1: less is better; a constant score gives 1.

    For each share of the rows from 0.9 to 0.999, the region holds that share of the least strange rows; the result is the mean of the
    regions' volumes. A good score encloses similar rows tightly. A volume is the share of points, drawn uniformly from the box that
    encloses ``rows``, that lie in the region. If more than five slots vary, a point is a row in which five random slots are redrawn:
    the volumes are then those of slices through the rows. Points depend on ``rows`` and ``seed`` alone, so all scores are compared on
    the same points.

    Source: Goix: How to evaluate the quality of unsupervised anomaly detection algorithms? (ICML workshop on anomaly detection, 2016):
    the area under the mass-volume curve above a mass of 0.9. For many dimensions it averages over models of five features each; here
    the volumes are those of slices, which needs no further fit. The curve: Clémençon, Jakubowicz: Scoring
    anomalies: a M-estimation formulation (AISTATS 2013).

    Args:
        strangeness: returns a score for each row, greater for stranger rows; its scale does not matter.
        rows: vectors that the model was not fitted on; only the first 10,000 are used.
        seed: of the points.

    Raises:
        ValueError: there is no row, or a score is not finite.
    """
    rows = np.asarray(rows[:MAX_ROWS])
    if not len(rows):
        raise ValueError("found no row to validate with, expected at least one")
    row_scores, point_scores = strangeness(rows), strangeness(draw_points(rows, seed))
    if not (np.isfinite(row_scores).all() and np.isfinite(point_scores).all()):
        raise ValueError("the strangeness of some rows is no number; check the features for NaN or infinite values")
    masses = np.linspace(MIN_MASS, MAX_MASS, 100)
    limits = np.quantile(row_scores, masses, method="higher")
    return float((np.searchsorted(np.sort(point_scores), limits, side="right") / len(point_scores)).mean())


def draw_points(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return points of the box that encloses ``rows``; if more than five slots vary, each point is a row with five of them redrawn."""
    random = np.random.default_rng(seed)
    low, high = rows.min(axis=0), rows.max(axis=0)
    vary = np.flatnonzero(high > low)
    points = rows[random.integers(0, len(rows), POINTS)].astype(float)
    if len(vary):
        places = vary[np.argsort(random.random((POINTS, len(vary))), axis=1)[:, :MAX_VARIED_SLOTS]]
        fresh = low[places] + random.random(places.shape) * (high - low)[places]
        np.put_along_axis(points, places, fresh, axis=1)
    return points
