"""The checks: the statistics of both passes against their limits, as findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from pyspark.sql import DataFrame

from tidemill.features.checks.checked_columns import CheckedColumns, checks_of, select_checked_columns
from tidemill.features.checks.class_statistics import explain_classes
from tidemill.features.checks.column_statistics import CheckStatistics, compute_statistics, find_constant_columns
from tidemill.features.checks.duplicates import find_duplicates
from tidemill.features.checks.encoding import encode_columns, is_chosen, key_hash
from tidemill.features.checks.findings import AUC_LIMIT, LATER_LIMIT, MINORITY_LIMIT, NULLS_LIMIT, R2_LIMIT, Finding
from tidemill.features.checks.label_statistics import LabelStatistics, read_label_statistics
from tidemill.features.checks.unreadable import unreadable_findings
from tidemill.features.checks.value_statistics import coarse_steps, explain_number, unpivot
from tidemill.spec.models import Checks, Dataset, Features
from tidemill.tasks import TaskKind

# The size of the sample if there are more rows: a leak shows in it as well.
MAX_ROWS = 200_000
# With fewer rows of a class (or, for a regression, fewer than twice as many rows) a column can match the label by chance.
MIN_ROWS = 10
# The least share of non-null rows for a statistic of the non-null rows to count.
_PRESENT = 0.1
_COPY = 1 - 1e-9


def run_feature_checks(marked: DataFrame, dataset: Dataset, task: str, features: Literal["auto"] | Features) -> list[Finding]:
    """Check the columns that would become features, and return findings; ``marked`` has ``split`` and ``fold`` and is read a few times.

    If there are more than 200,000 rows, a sample of that size is checked, chosen by a hash of the key; the balance of the label and
    unreadable text are those of all rows.

    - leakage: how well one column alone predicts the label of the training rows. Two classes: the greater of the AUC of a number itself
      and the AUC of out-of-fold estimates per value (or bin; null is a value too); at most 0.001 off. Many classes: of the rows that
      the most frequent class gets wrong, the share that the most frequent class of the value, in the other folds, gets right.
      Regression: the squared correlation of a number, or the R² of the mean of a value in the other folds.
    - copy: values and classes correspond one to one, or a number is a linear function of the label.
    - missing: how well being null alone predicts the label. later: the share of rows in which an instant is later than ``event_time``.
    - unreadable: the share of texts, of all rows, that cannot be read as the declared number, boolean or instant.
    - constant, duplicate, nulls (the share of nulls in train and test), balance: notes.

    Without a label, or if the task does not use it, there is no leakage. If the label is used for metrics only (anomalies), a column that
    predicts it is welcome, and only a copy blocks.

    The limits are 0.99 for an AUC and 0.98 for the others; statistics of fewer than 10 rows of a class are not checked.
    """
    kind = TaskKind(task)
    checks, checked = checks_of(features), select_checked_columns(marked.schema, dataset, features)
    label = read_label_statistics(marked, dataset, kind)
    always = [*unreadable_findings(marked, features), *_balance(label)]
    if not checked.all:
        return always
    rows = marked.count()
    if rows > MAX_ROWS:
        marked = marked.where(is_chosen(key_hash(dataset, "looked at"), rows, MAX_ROWS))
        label = read_label_statistics(marked, dataset, kind)
    codes = encode_columns(marked, checked, dataset, label)
    stats = compute_statistics(codes, checked, label)
    findings: list[Finding] = []
    if checks.leakage != "off":
        leaks = _leaks(codes, checked, label, stats, checks) if label.rows else ()
        findings += leaks if kind.learns_label else map(_warn_unless_copy, leaks)
        findings += _later(stats, checked, dataset, checks)
    if checks.constant != "off":
        findings += _constants(stats, checks)
    if checks.correlation != "off":
        findings += find_duplicates(codes, checked, stats, checks.correlation)
    return [*findings, *_nulls(stats), *always]


def _leaks(codes: DataFrame, checked: CheckedColumns, label: LabelStatistics, stats: CheckStatistics, checks: Checks) -> Iterator[Finding]:
    """Yield one finding per column: the first statistic over its limit (copy, null-ness, values), else the greatest leakage statistic."""
    known: dict[str, Mapping[str, Any]] = {}
    if checked.grouped and _has_enough_rows(label):
        explain = explain_classes if label.kind.has_many_classes else explain_number
        known = explain(unpivot(codes, checked, stats), label, checked, coarse_steps(checked, stats))
    for name in checked.all:
        figures = {**stats.columns[name], **known.get(name, {})}
        missing = _missing(figures, label, stats)
        candidates = [
            *_copy(figures, label, stats),
            *([("missing", *missing)] if missing else []),
            *(("leakage", *figure) for figure in _values(figures, label, stats)),
        ]
        over = next((candidate for candidate in candidates if candidate[2] >= candidate[3]), None)
        best = over or max((c for c in candidates if c[0] == "leakage"), key=lambda candidate: candidate[2], default=None)
        if best is not None:
            yield _leak(name, *best, label=label, checks=checks, is_over=over is not None)


def _leak(
    name: str, check: str, measure: str, value: float, limit: float, *, label: LabelStatistics, checks: Checks, is_over: bool
) -> Finding:
    if not is_over:
        return Finding(check, name, measure, value, limit)
    if name in checks.allow:
        return Finding(check, name, measure, value, limit, "pass", "")
    messages = {
        "copy": f"{name} is a copy of the label {label.name}, perhaps with other values ({measure} {value:.4g})",
        "missing": f"whether {name} is null predicts {label.name} by itself ({measure} {value:.4g}, limit {limit:g})",
        "leakage": f"{name} predicts {label.name} by itself ({measure} {value:.4g}, limit {limit:g})",
    }
    return Finding(check, name, measure, value, limit, checks.leakage, messages[check])


def _warn_unless_copy(finding: Finding) -> Finding:
    return replace(finding, action="warn") if finding.action == "block" and finding.check != "copy" else finding


def _has_enough_rows(label: LabelStatistics) -> bool:
    if label.kind.predicts_number:
        return label.rows >= 2 * MIN_ROWS and label.variance > 0
    return min(label.counts.values()) >= MIN_ROWS if label.kind.has_two_classes else label.rows >= 2 * MIN_ROWS


def _values(figures: Mapping[str, Any], label: LabelStatistics, stats: CheckStatistics) -> Iterator[tuple[str, float, float]]:
    """Yield measure, value and limit of how well the values predict the label."""
    present = figures["present"]
    if label.kind.predicts_number:
        enough = present >= max(2 * MIN_ROWS, _PRESENT * stats.learned)
        if enough and figures.get("r") is not None and math.isfinite(figures["r"]):
            yield "r2", figures["r"] ** 2, R2_LIMIT
        if figures.get("groups") is not None:
            yield "r2 of its values", figures["groups"], R2_LIMIT
    elif label.kind.has_two_classes:
        enough = min(figures["one"], present - figures["one"]) >= MIN_ROWS and present >= _PRESENT * stats.learned
        if enough and figures.get("order") is not None:
            yield "areaUnderROC", max(figures["order"], 1 - figures["order"]), AUC_LIMIT
        if figures.get("groups") is not None:
            yield "areaUnderROC of its values", figures["groups"], AUC_LIMIT
    elif figures.get("groups") is not None:
        base = label.counts[label.most] / label.rows
        yield "share of errors its values mend", (figures["groups"] - base) / (1 - base) if base < 1 else 0.0, R2_LIMIT


def _copy(figures: Mapping[str, Any], label: LabelStatistics, stats: CheckStatistics) -> Iterator[tuple[str, str, float, float]]:
    present = figures["present"]
    if present < _PRESENT * stats.learned or not _has_enough_rows(label):
        return
    if label.kind.predicts_number:
        r = figures.get("r")
        if r is not None and math.isfinite(r) and present >= 2 * MIN_ROWS and abs(r) >= _COPY:
            yield "copy", "r2", r * r, _COPY * _COPY
    elif label.kind.has_two_classes:
        sides = [(figures.get(f"low_{digit}"), figures.get(f"high_{digit}")) for digit in (0, 1)]
        is_pure = all(low is not None and low == high for low, high in sides) and sides[0] != sides[1]
        if is_pure and min(figures["one"], present - figures["one"]) >= MIN_ROWS:
            yield "copy", "areaUnderROC", 1.0, AUC_LIMIT
    elif figures.get("is_copy"):
        yield "copy", "accuracy", 1.0, R2_LIMIT


def _missing(figures: Mapping[str, Any], label: LabelStatistics, stats: CheckStatistics) -> tuple[str, float, float] | None:
    """Return measure, value and limit of how well being null predicts the label; None if it cannot be measured."""
    nulls = stats.learned - figures["present"]
    if not nulls or not figures["present"] or not _has_enough_rows(label):
        return None
    if label.kind.has_two_classes:
        ones = label.counts[label.greatest]
        share_of_ones = figures["one"] / ones
        share_of_zeros = (figures["present"] - figures["one"]) / (label.rows - ones)
        return "areaUnderROC", 0.5 + abs(share_of_ones - share_of_zeros) / 2, AUC_LIMIT
    if label.kind.predicts_number:
        of_nulls = figures["null_sum"] / nulls
        of_others = -of_nulls * nulls / figures["present"]
        between = (nulls * of_nulls**2 + figures["present"] * of_others**2) / label.rows
        return "r2", between / label.variance, R2_LIMIT
    return None


def _later(stats: CheckStatistics, checked: CheckedColumns, dataset: Dataset, checks: Checks) -> Iterator[Finding]:
    for name in checked.instants:
        figures = stats.columns[name]
        if not figures.get("compared"):
            continue
        share = figures["later"] / figures["compared"]
        message = f"{name} is later than {dataset.event_time} in {share:.1%} of the training rows: it is known too late"
        if share == 0 or name in checks.allow:
            yield Finding("later", name, "share of rows", share, LATER_LIMIT)
        else:
            yield Finding("later", name, "share of rows", share, LATER_LIMIT, checks.leakage if share >= LATER_LIMIT else "warn", message)


def _constants(stats: CheckStatistics, checks: Checks) -> Iterator[Finding]:
    for name, has_value in find_constant_columns(stats):
        holds = "one value in all checked training rows" if has_value else "no value in the checked training rows"
        follows = "`auto` makes no feature of it" if checks.constant == "drop" else "it carries no information"
        yield Finding("constant", name, "different values", float(has_value), 1.0, checks.constant, f"{name} holds {holds}: {follows}")


def _nulls(stats: CheckStatistics) -> Iterator[Finding]:
    for name, figures in stats.columns.items():
        if not stats.train or not stats.test:
            continue
        train, test = 1 - figures["train"] / stats.train, 1 - figures["test"] / stats.test
        shared = (2 * stats.train - figures["train"] + stats.test - figures["test"] - stats.train) / (stats.train + stats.test)
        chance = 3 * math.sqrt(max(shared * (1 - shared), 0.0) * (1 / stats.train + 1 / stats.test))
        is_over = abs(train - test) >= max(NULLS_LIMIT, chance)
        message = f"{name} is null in {train:.1%} of the training rows and in {test:.1%} of the test rows" if is_over else ""
        yield Finding("nulls", name, "difference of null shares", abs(train - test), NULLS_LIMIT, "warn" if is_over else "pass", message)


def _balance(label: LabelStatistics) -> Iterator[Finding]:
    shares = {value: count / label.rows for value, count in label.counts.items()} if label.rows else {}
    limit = MINORITY_LIMIT if label.kind.has_two_classes else MINORITY_LIMIT * 2 / max(len(shares), 2)
    for value, share in sorted(shares.items(), key=lambda item: item[1]):
        is_rare = share < limit
        message = f"only {share:.2%} of the labelled training rows have {label.name} = {value} ({label.counts[value]:,} rows)"
        yield Finding(
            "balance", label.name, "share of rows", share, limit, "warn" if is_rare else "pass", message if is_rare else "", str(value)
        )
