"""Model families by name: built in, from an installed package (``tidemill.families``), or user-defined by a dotted path.

Enters: the name of a family and of a task. Leaves: the `Family`, which declares its search spaces and capabilities, and the dotted names of
its estimators and learner. A family is added by declaring it in a module of ``built_in``. Nothing here imports Spark or a machine learning
library.
"""

from tidemill.families.engines import ENGINES, Engine
from tidemill.families.family import (
    BOTH_WAYS,
    IN_TASKS,
    ON_CLUSTER,
    PATIENCE,
    Encoding,
    Family,
    FamilyByTask,
    LibraryFamily,
    MLlibFamily,
    space_fault,
)
from tidemill.families.registry import (
    FAMILIES,
    Requirements,
    family_fault,
    family_names,
    find_family,
    resolve_spaces,
    unsupported_reason,
)

__all__ = [
    "BOTH_WAYS",
    "ENGINES",
    "FAMILIES",
    "IN_TASKS",
    "ON_CLUSTER",
    "PATIENCE",
    "Encoding",
    "Engine",
    "Family",
    "FamilyByTask",
    "LibraryFamily",
    "MLlibFamily",
    "Requirements",
    "family_fault",
    "family_names",
    "find_family",
    "resolve_spaces",
    "space_fault",
    "unsupported_reason",
]
