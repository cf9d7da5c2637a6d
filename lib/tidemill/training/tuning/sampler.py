"""Trials that depend on what earlier ones came to: Optuna's samplers, asked and told."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.errors import Fault, SpecError
from tidemill.spec.models import FloatRange, IntRange, LogRange, Space, Tuner
from tidemill.tasks import is_minimised
from tidemill.training.tuning.space import Params, size
from tidemill.training.tuning.tuner import DEFAULT_TRIALS, Trial, spread

if TYPE_CHECKING:
    import optuna


# As many are asked for before any is told of, whatever runs side by side: so the same seed gives the same trials at any parallelism.
GENERATION = 8
_LEAST_AT_RANDOM = 5
_ASKS_A_TRIAL = 5


class Sampler:
    """The trials of a run, generation by generation: a study of Optuna's for each family, the number of trials spread evenly over them.

    ``tpe`` learns from what it is told; ``qmc`` spreads its points evenly over the space.

    Raises:
        SpecError: Optuna is not installed.
    """

    def __init__(self, spaces: Mapping[str, Space], tuner: Tuner, metric: str) -> None:
        """Make the studies."""
        optuna = _optuna()
        self._spaces = spaces
        quotas = spread(tuner.trials or DEFAULT_TRIALS, [size(space) for space in spaces.values()])
        self._left = dict(zip(spaces, quotas, strict=True))
        direction = "minimize" if is_minimised(metric) else "maximize"
        self._studies = {
            name: optuna.create_study(direction=direction, sampler=_sampler(optuna, tuner, self._left[name], place))
            for place, name in enumerate(spaces)
        }
        self._asked: dict[int, tuple[str, Any]] = {}
        self._seen: set[str] = set()
        self._next = 0

    def ask(self) -> list[Trial]:
        """Return the next trials, at most a generation; none when all have been asked for."""
        quotas = spread(GENERATION, list(self._left.values()))
        trials = []
        for name, quota in zip(self._spaces, quotas, strict=True):
            for _ in range(quota):
                asked, params = self._new(name)
                trials.append(Trial(self._next, name, params))
                self._asked[self._next] = (name, asked)
                self._next += 1
                self._left[name] -= 1
        return trials

    def tell(self, values: Mapping[int, float], stopped: Mapping[int, tuple[int, float]] | None = None) -> None:
        """Tell what the last generation came to: trial → mean over the folds; one without a value failed, or was ``stopped``.

        Of these, as `halving.stopped_means` has them, samplers learn too: what got further is worth more than what did not.
        """
        optuna = _optuna()
        for number, (name, asked) in self._asked.items():
            if number in values:
                self._studies[name].tell(asked, values[number])
            elif stopped and number in stopped:
                step, value = stopped[number]
                asked.report(value, step)
                self._studies[name].tell(asked, state=optuna.trial.TrialState.PRUNED)
            else:
                self._studies[name].tell(asked, state=optuna.trial.TrialState.FAIL)
        self._asked.clear()

    def _new(self, name: str) -> tuple[Any, Params]:
        """Ask for a point that was not tried yet, as long as that is likely to be had."""
        study = self._studies[name]
        for attempt in range(_ASKS_A_TRIAL):
            asked = study.ask()
            params = {parameter: _suggested(asked, parameter, values) for parameter, values in self._spaces[name].items()}
            key = json.dumps([name, params], sort_keys=True)
            if key not in self._seen or attempt == _ASKS_A_TRIAL - 1:
                self._seen.add(key)
                return asked, params
            study.tell(asked, state=_optuna().trial.TrialState.FAIL)
        raise AssertionError("unreachable")


def _sampler(optuna: Any, tuner: Tuner, quota: int, place: int) -> optuna.samplers.BaseSampler:
    seed = tuner.seed + place
    if tuner.strategy == "qmc":
        return optuna.samplers.QMCSampler(seed=seed, scramble=True)
    first = max(_LEAST_AT_RANDOM, quota // 4)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=first, multivariate=True, constant_liar=True)


def _suggested(asked: Any, name: str, values: Any) -> Any:
    if isinstance(values, IntRange):
        return asked.suggest_int(name, *values.int)
    if isinstance(values, FloatRange):
        return asked.suggest_float(name, *values.float)
    if isinstance(values, LogRange):
        return asked.suggest_float(name, *values.log, log=True)
    return asked.suggest_categorical(name, list(values)) if isinstance(values, list) else values


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        message = "this strategy needs Optuna; pip install 'tidemill[tasks]', or write `strategy: random`"
        raise SpecError([Fault("pipeline.yml", None, "training.tuner.strategy", message)]) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # What is new in it is no news to those who run a pipeline.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
