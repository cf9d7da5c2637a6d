"""The trials of a run: parameter sets by family, as the tuner plans them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.spec.models import PREFIX, Space, Tuner
from tidemill.training.tuning.space import Params, count_points, draw_point, draw_uniform, list_grid

DEFAULT_TRIALS = 12
_DRAWS_PER_TRIAL = 50


@dataclass(frozen=True)
class Trial:
    """One parameter set of one family; ``number`` counts from 0 over the whole run."""

    number: int
    family: str
    params: Params

    @property
    def of_family(self) -> Params:
        """The parameters of the family, without those of features."""
        return {name: value for name, value in self.params.items() if not name.startswith(PREFIX)}

    @property
    def of_features(self) -> Params:
        """The values for the block ``features``, by their path in it."""
        return {name.removeprefix(PREFIX): value for name, value in self.params.items() if name.startswith(PREFIX)}

    @property
    def variant(self) -> str:
        """The name of the trial's features: trials with the same variant share their vectors."""
        return json.dumps(self.of_features, sort_keys=True)

    @property
    def params_json(self) -> str:
        """The parameters as JSON with sorted keys, as in ``ops.trials``."""
        return json.dumps(self.params, sort_keys=True)


def plan_trials(spaces: Mapping[str, Space], tuner: Tuner) -> list[Trial]:
    """Return the trials of a run, family after family, each parameter set once.

    ``tuner.trials`` is the number of the whole run, spread evenly over the families, with the remainder to the first ones; trials that a
    small space cannot take go to the others. Random sets depend on the seed, the family and their own index, so that neither another
    family nor more trials change them. The trials of `tpe` and `qmc` come from `tidemill.training.tuning.sampler` during the search.
    """
    if tuner.strategy == "grid":
        points = {family: list_grid(space) for family, space in spaces.items()}
        total = tuner.trials or sum(map(len, points.values()))
        quotas = allocate_trials(total, [len(family_points) for family_points in points.values()])
        chosen = {
            family: _select_points(family_points, quota, tuner.seed, family)
            for (family, family_points), quota in zip(points.items(), quotas, strict=True)
        }
    else:
        quotas = allocate_trials(tuner.trials or DEFAULT_TRIALS, [count_points(space) for space in spaces.values()])
        chosen = {
            family: _draw_points(space, quota, tuner.seed, family) for (family, space), quota in zip(spaces.items(), quotas, strict=True)
        }
    pairs = [(family, params) for family, family_points in chosen.items() for params in family_points]
    return [Trial(number, family, params) for number, (family, params) in enumerate(pairs)]


def allocate_trials(total: int, capacities: Sequence[float]) -> list[int]:
    """Return how many of ``total`` trials each family gets: as even as the capacities allow, with the remainder to the first ones."""
    shares = [0] * len(capacities)
    left = total
    while left:
        open_ones = [index for index, capacity in enumerate(capacities) if shares[index] < capacity]
        if not open_ones:
            break
        each = max(1, left // len(open_ones))
        for index in open_ones[:left]:
            taken = int(min(each, capacities[index] - shares[index], left))
            shares[index] += taken
            left -= taken
    return shares


def _draw_points(space: Space, quota: int, seed: int, family: str) -> list[Params]:
    """Draw ``quota`` distinct points of a space that has as many; the number of draws is enough for the last point of a small space."""
    drawn: dict[str, Params] = {}
    for index in range(quota * _DRAWS_PER_TRIAL):
        params = draw_point(space, seed, family, index)
        if len(drawn) == quota:
            break
        drawn.setdefault(json.dumps(params, sort_keys=True), params)
    return list(drawn.values())


def _select_points(points: list[Params], quota: int, seed: int, family: str) -> list[Params]:
    """Return ``quota`` of the points, selected by the seed, in the order of the grid."""
    ranks = sorted(range(len(points)), key=lambda index: draw_uniform(seed, family, "grid", json.dumps(points[index], sort_keys=True)))
    return [points[index] for index in sorted(ranks[:quota])]
