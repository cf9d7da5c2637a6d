from pyspark.errors import AnalysisException

from tidemill.runtime.spark_errors import format_spark_error

SAID = (
    "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with name `idd` cannot be resolved. "
    "Did you mean one of the following? [{}]. SQLSTATE: 42703; line 1"
)


def test_internal_names_are_not_suggested() -> None:
    told = format_spark_error(AnalysisException(SAID.format("`id`, `_tidemill_rules`, `t`.`_tidemill_corrupt`, ` corrupt`, `_own`")))
    assert told.startswith("A column with name `idd` cannot be resolved. Did you mean one of the following? [`id`, `_own`].")
    alone = format_spark_error(AnalysisException(SAID.format("`_tidemill_rules`")))
    assert alone.startswith("A column with name `idd` cannot be resolved.") and "Did you mean" not in alone
