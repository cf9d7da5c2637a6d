"""A row passes a check only where it is true: false, null and every error break it."""

from datetime import UTC, datetime
from importlib.metadata import EntryPoint

import pytest
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill import extensions
from tidemill.quality.expectations.conditions import conditions_hold
from tidemill.quality.expectations.kinds import ColumnUse, Judgement, Measure, RowKind, TableKind
from tidemill.quality.expectations.quarantine import build_expectation_rows, describe_refusal, describe_violations, find_refusing_rules
from tidemill.quality.expectations.row_rules import (
    FATE,
    Latest,
    ViolationCounts,
    annotate_rows,
    count_violations,
    sample_repeated_keys,
    sample_violations,
    select_kept_rows,
    select_quarantined_rows,
)
from tidemill.quality.expectations.rules import Rule, build_rules, errors_count_as_violations
from tidemill.quality.expectations.table_kinds import sum_of
from tidemill.quality.expectations.table_rules import Comparisons, judge_table, select_table_rules
from tidemill.spec.models import Expectation

# text, number → what each check is for it, worked out by hand under ANSI rules.
ROWS = [("abc", 0), ("5", 1), (None, 2), ("7", 2147483647)]
CHECKS = {
    "x IS NOT NULL": [True, True, False, True],
    "CAST(x AS INT) > 4": [False, True, False, True],
    "CAST(x AS INT) IS NULL OR CAST(x AS INT) > 6": [False, False, True, True],
    "x BETWEEN 1 AND 6": [False, True, False, False],
    "10 / n > 1": [False, True, True, False],
    "n + 1 > 0": [True, True, True, False],
    "array(1, 2)[n] < 3": [True, True, False, False],
    "raise_error('no') IS NULL": [False, False, False, False],
    "DATE'2013-01-01' > x": [False, False, False, False],
    "true": [True, True, True, True],
    "n >= 0 -- a remark": [True, True, True, True],
    "NULL": [False, False, False, False],
}


def test_only_true_passes(spark) -> None:
    df = spark.createDataFrame(ROWS, "x STRING, n INT").repartition(1)
    with errors_count_as_violations(spark):
        found = df.select(*[conditions_hold(check).alias(f"c{place}") for place, check in enumerate(CHECKS)], "n").orderBy("n").collect()
    by_check = {check: [row[f"c{place}"] for row in found] for place, check in enumerate(CHECKS)}
    assert by_check == CHECKS


def test_the_setting_is_put_back(spark) -> None:
    name = "spark.sql.subexpressionElimination.enabled"
    before = spark.conf.get(name)
    with pytest.raises(ZeroDivisionError), errors_count_as_violations(spark):
        assert spark.conf.get(name) == "false"
        raise ZeroDivisionError
    assert spark.conf.get(name) == before


def test_rows_are_split_and_counted(spark) -> None:
    rows = [(1, 5), (2, -1), (3, 200), (4, None), (None, 7), (5, 300), (5, 6), (5, 8), (6, -300)]
    df = spark.createDataFrame(rows, "`a id` INT, v INT")
    key = ["a id"]
    rules = build_rules(
        {
            "known": Expectation(check="v IS NOT NULL", on_violation="drop"),
            "small": Expectation(check="abs(v) < 100", on_violation="quarantine"),
            "positive": Expectation(check="v > 0", on_violation="drop"),
            "odd": Expectation(check="v % 2 = 1", on_violation="warn"),
        },
        key,
    )
    checked = annotate_rows(df, rules).persist()
    counts = count_violations(checked, rules, key)
    # (6, -300) breaks a rule to quarantine and one to drop: it is quarantined. (4, null) breaks `small` too, so it is.
    assert (counts.rows, counts.kept, counts.quarantined, counts.dropped) == (9, 3, 5, 1)
    assert counts.failed == {"key": 1, "known": 1, "small": 4, "positive": 3, "odd": 7}
    assert (counts.repeated_keys, counts.repeating_rows) == (1, 1)
    assert sorted(map(tuple, select_kept_rows(checked).collect())) == [(1, 5), (5, 6), (5, 8)]
    quarantined = {row["raw"]: row["rules"] for row in select_quarantined_rows(checked).collect()}
    assert quarantined['{"a id":4,"v":null}'] == ["known", "small", "positive", "odd"]
    assert quarantined['{"a id":null,"v":7}'] == ["key"]
    assert checked.where(f"{FATE} = 'dropped'").count() == 1
    assert sample_repeated_keys(checked, key) == ['{"a id":5}']
    assert sample_violations(checked, rules[1], key) == ['{"a id":4}']
    assert count_violations(checked, rules, []).rows == 9
    checked.unpersist()
    empty = count_violations(annotate_rows(df.limit(0), rules), rules, key)
    assert (empty.rows, empty.kept, empty.repeated_keys, empty.failed["small"]) == (0, 0, 0, 0)


def test_all_rules_of_a_table_are_evaluated_in_one_pass(spark) -> None:
    seen = spark.sparkContext.accumulator(0)

    @F.udf("bigint")
    def watched(value):
        seen.add(1)
        return value

    source = spark.range(100, numPartitions=2).repartition(2).select("id", watched("id").alias("a"), (F.col("id") % 7).alias("b"))
    allowed = spark.range(5).withColumnRenamed("id", "b")
    few = {"a": Expectation(check="a > 3")}
    many = {f"c{number}": Expectation(check=f"a > {number}", on_violation="drop") for number in range(10)} | {
        "known": Expectation(not_null=["a", "b"]),
        "allowed": Expectation(in_reference="silver.x.b", column="b", on_violation="quarantine"),
        "once": Expectation(unique=["b"], on_violation="drop"),
    }
    jobs = []
    for rules, latest in ((few, None), (many, Latest(("id",), "b"))):
        judges = build_rules(rules, ["id"])
        context, group = spark.sparkContext, f"pass-{len(jobs)}"
        checked = annotate_rows(source, judges, {"allowed": allowed}, latest).persist()
        context.setJobGroup(group, "")
        seen.value = 0
        with errors_count_as_violations(spark):
            counts = count_violations(
                checked, judges, ["id"], {"total": sum_of(F.col("b"), T.LongType()), "newest": Measure(F.col("b"), F.max)}
            )
        assert select_kept_rows(checked).count() == counts.kept
        assert select_quarantined_rows(checked).count() == counts.quarantined
        context.setJobGroup("rest", "")
        checked.unpersist()
        assert seen.value == 100
        jobs.append(len(context.statusTracker().getJobIdsForGroup(group)))
    # b is id % 7: 28 of the ids have a 5 or a 6, which are not allowed; of the others one is left for each b.
    assert (counts.kept, counts.quarantined, counts.dropped) == (5, 28, 67)
    assert counts.measured == {"total": 0 + 1 + 2 + 3 + 4, "newest": 4}
    # The look-up broadcasts its values, and the two windows make a shuffle each, which is a job of its own.
    assert jobs[1] - jobs[0] <= 4


def rule(action: str, at_most: float | None = None) -> Rule:
    return Rule("r", "x > 0", action, at_most, None)


@pytest.mark.parametrize(
    ("action", "at_most", "failed", "is_refused"),
    [
        ("fail", None, 0, False),
        ("fail", None, 1, True),
        ("fail", 0.02, 2, False),
        ("fail", 0.02, 3, True),
        ("drop", None, 100, False),
        ("drop", 0.02, 2, False),
        ("drop", 0.02, 3, True),
        ("quarantine", 0.02, 3, True),
        ("quarantine", 0.0, 1, True),
        ("warn", 0.02, 3, False),
        ("warn", None, 100, False),
        ("fail", 3, 3, False),
        ("fail", 3, 4, True),
        ("drop", 1, 1, False),
        ("drop", 1, 2, True),
        ("drop", 1.0, 100, False),
    ],
)
def test_what_stops_a_table(action: str, at_most: float | None, failed: int, is_refused: bool) -> None:
    allowed = at_most if isinstance(at_most, int) else 100 * (at_most or 0)
    counts = ViolationCounts(100, 100 - failed, 0, 0, {"r": failed}, 0, 0)
    rules = [rule(action, at_most)]
    assert bool(find_refusing_rules(rules, counts)) == is_refused
    (row,) = build_expectation_rows(rules, counts)
    assert (row["rows_checked"], row["rows_failed"], row["passed"]) == (100, failed, failed <= allowed)


def test_messages() -> None:
    counts = ViolationCounts(200, 197, 0, 0, {"r": 3}, 0, 0)
    told = describe_refusal("silver.x", rule("quarantine", 0.01), counts, ['{"id":1}'])
    assert told.startswith("silver.x: expectation 'r' (x > 0) is broken by 3 of 200 rows (1.50%, at most 1.00% allowed)")
    assert 'such as {"id":1}' in told
    assert describe_violations("silver.x", [rule("warn", 0.01)], counts) == [
        "silver.x: 3 of 200 rows break 'r' (kept, though at most 1.00% may)"
    ]


class Positive(RowKind):
    name = "positive"
    options = str

    @property
    def uses(self):
        return (ColumnUse((self.name,), self.value),)

    def describe(self):
        return f"{self.value} is positive"

    def is_broken(self, match=None):
        return ~F.coalesce(F.col(self.value) > 0, F.lit(False))


class Mean(TableKind):
    name = "mean"
    options = str

    def measure(self, rows):
        return Measure(F.col(self.value), F.max)

    def judge(self, facts):
        return Judgement(facts.measured == 7, float(facts.rows), "a greatest value of 7", f"it is {facts.measured}")


def test_kinds_of_ones_own(spark, monkeypatch) -> None:
    monkeypatch.setattr(extensions, "entry_points", lambda group: [
        EntryPoint(kind.name, f"{__name__}:{kind.__name__}", group) for kind in (Positive, Mean)
    ])  # fmt: skip
    monkeypatch.setattr(EntryPoint, "load", lambda point: globals()[point.attr])
    expectations = {
        "p": Expectation(positive="v", on_violation="quarantine"),
        "m": Expectation(mean="v", on_violation="fail"),
    }
    rules, whole = build_rules(expectations, []), select_table_rules(expectations)
    rows = spark.createDataFrame([(7,), (-9,), (None,)], "v INT")
    checked = annotate_rows(rows, rules)
    counts = count_violations(checked, rules, [], {name: kind.measure(rows) for name, kind in whole.items()})
    assert (counts.kept, counts.quarantined, counts.failed) == (1, 2, {"p": 2})
    assert describe_refusal("silver.x", rules[0], counts, []).startswith(
        "silver.x: expectation 'p' (v is positive) is broken by 2 of 3 rows"
    )
    (verdict,) = judge_table(whole, {"m": "fail"}, counts, Comparisons(datetime.now(UTC)))
    assert (verdict.passed, verdict.kind, verdict.value, verdict.found) == (True, "mean", 1.0, "it is 7")
    assert [row["kind"] for row in build_expectation_rows(rules, counts, [verdict])] == ["positive", "mean"]
