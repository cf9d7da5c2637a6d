"""Trials that depend on the results of earlier ones: Optuna's samplers, by its ask-and-tell interface."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.errors import Fault, SpecError
from tidemill.spec.models import FloatRange, IntRange, LogRange, Space, Tuner
from tidemill.tasks import is_minimised
from tidemill.training.tuning.space import Params, count_points
from tidemill.training.tuning.tuner import DEFAULT_TRIALS, Trial, allocate_trials

if TYPE_CHECKING:
    import optuna


# So many trials are asked for before any result is told, whatever the parallelism, so that a seed gives the same trials at any parallelism.
GENERATION = 8
_MIN_RANDOM_TRIALS = 5
_ATTEMPTS_PER_TRIAL = 5


class Sampler:
    """The trials of a run by generations: one Optuna study per family, with the number of trials spread evenly over the families.

    ``tpe`` learns from the results of trials; ``qmc`` spreads its points evenly over the space.

    Raises:
        SpecError: Optuna is not installed.
    """

    def __init__(self, spaces: Mapping[str, Space], tuner: Tuner, metric: str) -> None:
        """Create the studies."""
        optuna = _optuna()
        self._spaces = spaces
        quotas = allocate_trials(tuner.trials or DEFAULT_TRIALS, [count_points(space) for space in spaces.values()])
        self._remaining = dict(zip(spaces, quotas, strict=True))
        direction = "minimize" if is_minimised(metric) else "maximize"
        self._studies = {
            name: optuna.create_study(direction=direction, sampler=_sampler(optuna, tuner, self._remaining[name], position))
            for position, name in enumerate(spaces)
        }
        self._open_trials: dict[int, tuple[str, Any]] = {}
        self._tried: set[str] = set()
        self._next = 0

    def ask(self) -> list[Trial]:
        """Return the next trials, at most one generation; none after the last."""
        quotas = allocate_trials(GENERATION, list(self._remaining.values()))
        trials = []
        for name, quota in zip(self._spaces, quotas, strict=True):
            for _ in range(quota):
                optuna_trial, params = self._ask_new(name)
                trials.append(Trial(self._next, name, params))
                self._open_trials[self._next] = (name, optuna_trial)
                self._next += 1
                self._remaining[name] -= 1
        return trials

    def tell(self, values: Mapping[int, float], stopped: Mapping[int, tuple[int, float]] | None = None) -> None:
        """Pass the results of the last generation to the studies: trial → mean over the folds; others failed or were ``stopped``.

        Samplers learn from stopped trials too (`tune.stopped_means`): those that were stopped later count as better.
        """
        optuna = _optuna()
        for number, (name, optuna_trial) in self._open_trials.items():
            if number in values:
                self._studies[name].tell(optuna_trial, values[number])
            elif stopped and number in stopped:
                step, value = stopped[number]
                optuna_trial.report(value, step)
                self._studies[name].tell(optuna_trial, state=optuna.trial.TrialState.PRUNED)
            else:
                self._studies[name].tell(optuna_trial, state=optuna.trial.TrialState.FAIL)
        self._open_trials.clear()

    def _ask_new(self, name: str) -> tuple[Any, Params]:
        """Ask for a point that was not tried yet; give up after a few attempts."""
        study = self._studies[name]
        for attempt in range(_ATTEMPTS_PER_TRIAL):
            optuna_trial = study.ask()
            params = {parameter: _suggest(optuna_trial, parameter, values) for parameter, values in self._spaces[name].items()}
            key = json.dumps([name, params], sort_keys=True)
            if key not in self._tried or attempt == _ATTEMPTS_PER_TRIAL - 1:
                self._tried.add(key)
                return optuna_trial, params
            study.tell(optuna_trial, state=_optuna().trial.TrialState.FAIL)
        raise AssertionError("unreachable")


def _sampler(optuna: Any, tuner: Tuner, quota: int, position: int) -> optuna.samplers.BaseSampler:
    seed = tuner.seed + position
    if tuner.strategy == "qmc":
        return optuna.samplers.QMCSampler(seed=seed, scramble=True)
    first = max(_MIN_RANDOM_TRIALS, quota // 4)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=first, multivariate=True, constant_liar=True)


def _suggest(optuna_trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, IntRange):
        return optuna_trial.suggest_int(name, *values.int)
    if isinstance(values, FloatRange):
        return optuna_trial.suggest_float(name, *values.float)
    if isinstance(values, LogRange):
        return optuna_trial.suggest_float(name, *values.log, log=True)
    return optuna_trial.suggest_categorical(name, list(values)) if isinstance(values, list) else values


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        message = "this strategy needs Optuna; pip install 'tidemill[tasks]', or write `strategy: random`"
        raise SpecError([Fault("pipeline.yml", None, "training.tuner.strategy", message)]) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Warnings about experimental features of Optuna do not concern users of a pipeline.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
