"""The tuner: which parameter sets of which families are tried."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.spec.models import PREFIX, Space, Tuner
from tidemill.training.tuning.space import Params, draw, grid, size, uniform

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
        """The parameters of the family alone."""
        return {name: value for name, value in self.params.items() if not name.startswith(PREFIX)}

    @property
    def of_features(self) -> Params:
        """The values that go into the block ``features``, by their path there."""
        return {name.removeprefix(PREFIX): value for name, value in self.params.items() if name.startswith(PREFIX)}

    @property
    def variant(self) -> str:
        """The trial's features by name: those with the same name have the same vectors."""
        return json.dumps(self.of_features, sort_keys=True)

    @property
    def params_json(self) -> str:
        """The parameters as JSON, keys sorted: what ``ops.trials`` holds."""
        return json.dumps(self.params, sort_keys=True)


def plan_trials(spaces: Mapping[str, Space], tuner: Tuner) -> list[Trial]:
    """Return the trials of a run, family after family, each parameter set once.

    ``tuner.trials`` is the number of the whole run, spread evenly over the families with the remainder to the first ones; what a small
    space cannot take goes to the others. Random sets depend on the seed, the family and their own index, so that neither another
    family nor more trials move them. What `tpe` and `qmc` try is asked of `tidemill.training.tuning.sampler`, as the search goes on.
    """
    if tuner.strategy == "grid":
        points = {family: grid(space) for family, space in spaces.items()}
        total = tuner.trials or sum(map(len, points.values()))
        quotas = spread(total, [len(found) for found in points.values()])
        chosen = {family: _subset(found, quota, tuner.seed, family) for (family, found), quota in zip(points.items(), quotas, strict=True)}
    else:
        quotas = spread(tuner.trials or DEFAULT_TRIALS, [size(space) for space in spaces.values()])
        chosen = {family: _random(space, quota, tuner.seed, family) for (family, space), quota in zip(spaces.items(), quotas, strict=True)}
    pairs = [(family, params) for family, found in chosen.items() for params in found]
    return [Trial(number, family, params) for number, (family, params) in enumerate(pairs)]


def spread(total: int, capacities: Sequence[float]) -> list[int]:
    """Return how many of ``total`` each takes: as even as the capacities allow, the remainder to the first ones."""
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


def _random(space: Space, quota: int, seed: int, family: str) -> list[Params]:
    """Return ``quota`` different points, which the space must have; even the last of a small one is met within so many draws."""
    found: dict[str, Params] = {}
    for index in range(quota * _DRAWS_PER_TRIAL):
        params = draw(space, seed, family, index)
        if len(found) == quota:
            break
        found.setdefault(json.dumps(params, sort_keys=True), params)
    return list(found.values())


def _subset(points: list[Params], quota: int, seed: int, family: str) -> list[Params]:
    """Return ``quota`` of the points, chosen by the seed, in the order of the grid."""
    ranks = sorted(range(len(points)), key=lambda index: uniform(seed, family, "grid", json.dumps(points[index], sort_keys=True)))
    return [points[index] for index in sorted(ranks[:quota])]
