"""How good an order by strangeness is where nobody has said which rows are strange."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# As many rows are looked at, and as many points drawn around them.
MOST_ROWS = 10_000
POINTS = 10_000
# The share of the rows that are to lie in the region taken as normal.
LEAST_MASS, MOST_MASS = 0.9, 0.999
# In more dimensions nearly all of a box is empty, and every order looks the same.
MOST_SLOTS = 5


def mass_volume(strangeness: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, seed: int) -> float:
    """Return how much room the least strange rows take, between 0 and 1: less is better, and 1 is what a constant score comes to.

    For each share of the rows from 0.9 to 0.999 the region that is no stranger than that share of them has a volume; this is the mean
    of the volumes. A good order closes tightly around the rows that are alike. The volume is the share of points, drawn evenly from
    the box that ``rows`` fill, that lie in the region. Of more than five slots a point is a row in which five, chosen by chance, are
    drawn anew: volumes are then those of slices through the rows. Points depend on ``rows`` and ``seed`` alone, so that orders are
    compared on the same ones.

    Source: Goix: How to evaluate the quality of unsupervised anomaly detection algorithms? (ICML workshop on anomaly detection, 2016):
    the area under the mass-volume curve above a mass of 0.9. For many dimensions it averages over models of five features each; here
    the model stays as it is and the volumes are those of slices, which needs no further fit. The curve: Clémençon, Jakubowicz: Scoring
    anomalies: a M-estimation formulation (AISTATS 2013).

    Args:
        strangeness: what gives each row a figure that grows with strangeness; its scale does not matter.
        rows: vectors that the score has not been made of, at most the first 10,000 of which are looked at.
        seed: of the points.

    Raises:
        ValueError: there is no row, or a figure is no number.
    """
    rows = np.asarray(rows[:MOST_ROWS])
    if not len(rows):
        raise ValueError("found no row to validate with, expected at least one")
    seen, drawn = strangeness(rows), strangeness(drawn_points(rows, seed))
    if not (np.isfinite(seen).all() and np.isfinite(drawn).all()):
        raise ValueError("the strangeness of some rows is no number; check the features for NaN or infinite values")
    masses = np.linspace(LEAST_MASS, MOST_MASS, 100)
    limits = np.quantile(seen, masses, method="higher")
    return float((np.searchsorted(np.sort(drawn), limits, side="right") / len(drawn)).mean())


def drawn_points(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return points of the box that ``rows`` fill; of more than five slots that vary, each is a row with five of them drawn anew."""
    random = np.random.default_rng(seed)
    low, high = rows.min(axis=0), rows.max(axis=0)
    vary = np.flatnonzero(high > low)
    points = rows[random.integers(0, len(rows), POINTS)].astype(float)
    if len(vary):
        places = vary[np.argsort(random.random((POINTS, len(vary))), axis=1)[:, :MOST_SLOTS]]
        fresh = low[places] + random.random(places.shape) * (high - low)[places]
        np.put_along_axis(points, places, fresh, axis=1)
    return points
