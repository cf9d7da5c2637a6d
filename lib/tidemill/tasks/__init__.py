"""Tasks and metrics by name: built in, of an installed package (``tidemill.tasks``, ``tidemill.metrics``), or one's own by a dotted path.

Enters: the name of a task or a metric. Leaves: the `Task`, which declares the role of the label, the metrics, the default families and
the code that trains and evaluates; or the `Metric`, a formula of counts. Nothing here imports Spark or a machine learning library.
"""

from tidemill.tasks.metrics import METRICS, QUANTILE_LOSS, RANKING, Metric, PredictedRows, is_minimised, reads_error_quantiles
from tidemill.tasks.task import TASKS, Task, TaskKind

__all__ = [
    "METRICS",
    "QUANTILE_LOSS",
    "RANKING",
    "TASKS",
    "Metric",
    "PredictedRows",
    "Task",
    "TaskKind",
    "is_minimised",
    "reads_error_quantiles",
]
