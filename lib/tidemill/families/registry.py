"""Model families: which estimator stands behind a name; a file for each kind."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.families.bayes import NAIVE_BAYES
from tidemill.families.clustering import BISECTING_KMEANS, GAUSSIAN_MIXTURE, ISOLATION_FOREST, KMEANS, MIXTURE_DENSITY
from tidemill.families.family import Encoding, Family, MLlibFamily, space_fault
from tidemill.families.linear import LINEAR_REGRESSION, LINEAR_SVM, LOGISTIC_REGRESSION
from tidemill.families.perceptron import MULTILAYER_PERCEPTRON
from tidemill.families.recommenders import ALTERNATING_LEAST_SQUARES, FACTORIZATION_MACHINES
from tidemill.families.third_party import HIST_GRADIENT_BOOSTING, LIGHTGBM_TREES, XGBOOST_TREES
from tidemill.families.trees import GRADIENT_BOOSTED_TREES, RANDOM_FOREST
from tidemill.spec.models import Space

__all__ = ["FAMILIES", "Encoding", "Family", "MLlibFamily", "family_of", "search_spaces", "space_fault"]

_ALL: tuple[Family, ...] = (
    LOGISTIC_REGRESSION,
    LINEAR_REGRESSION,
    RANDOM_FOREST,
    GRADIENT_BOOSTED_TREES,
    LINEAR_SVM,
    NAIVE_BAYES,
    MULTILAYER_PERCEPTRON,
    FACTORIZATION_MACHINES,
    HIST_GRADIENT_BOOSTING,
    XGBOOST_TREES,
    LIGHTGBM_TREES,
    KMEANS,
    BISECTING_KMEANS,
    GAUSSIAN_MIXTURE,
    ISOLATION_FOREST,
    MIXTURE_DENSITY,
    ALTERNATING_LEAST_SQUARES,
)
FAMILIES: dict[str, Family] = {family.name: family for family in reversed(_ALL)}
_BY_TASK = {(family.name, task): family for family in _ALL for task in family.tasks}  # one name may be two programs, each for a task


def family_of(name: str, task: str) -> Family:
    """Return the family of that name.

    Raises:
        SpecError: there is none, or it does not suit the task.
    """
    family = _BY_TASK.get((name, task))
    if family is None:
        fitting = [known for known, suited in _BY_TASK if suited == task]
        message = f"no model family for `task: {task}`{did_you_mean(name, fitting)}; choose from {', '.join(fitting)}"
        raise SpecError([Fault("pipeline.yml", None, f"training.models.{name}", message)])
    return family


def search_spaces(
    declared: Mapping[str, Space], task: str, file: str = "pipeline.yml", *, texts: bool = False, needs_libraries: bool = True
) -> dict[str, Space]:
    """Return the space of each declared family: as declared, or the family's own where that is empty.

    Where there are texts, what a family has ``for_texts`` goes before the space. Without ``needs_libraries`` the parameters of a family
    whose library is not installed are taken as they are.

    Raises:
        SpecError: a family or a parameter is unknown, a value has the wrong type, or a library is missing; all of them are named.
    """
    spaces: dict[str, Space] = {}
    faults: list[Fault] = []
    for name, space in declared.items():
        try:
            family = family_of(name, task)
        except SpecError as error:
            faults += [Fault(file, None, fault.key, fault.message) for fault in error.faults]
            continue
        missing = family.missing()
        wrong = family.faults(space, task) if missing is None else {"": missing} if needs_libraries else {}
        faults += [space_fault(name, parameter, message, file) for parameter, message in wrong.items()]
        spaces[name] = space or family.space(task, texts=texts)
        if texts:
            spaces[name] = {**family.for_texts, **spaces[name]}
    if faults:
        raise SpecError(faults)
    return spaces
