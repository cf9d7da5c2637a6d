"""The judgement: the figures of both passes against their limits, as findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from pyspark.sql import DataFrame

from tidemill.features.checks.classes import many_classes
from tidemill.features.checks.coded import coded, is_chosen, key_hash
from tidemill.features.checks.duplicates import duplicates
from tidemill.features.checks.findings import AUC_LIMIT, LATER_LIMIT, MINORITY_LIMIT, NULLS_LIMIT, R2_LIMIT, Finding
from tidemill.features.checks.groups import coarse_steps, one_number, tall
from tidemill.features.checks.profile import Profile, constant_columns, profile
from tidemill.features.checks.subjects import Subjects, checks_of, subjects
from tidemill.features.checks.target import Target, read_target
from tidemill.features.checks.unreadable import unreadable_findings
from tidemill.spec.models import Checks, Dataset, Features
from tidemill.tasks import TaskKind

# Of more rows than this, about as many are looked at: a leak shows in them as well.
MOST_ROWS = 200_000
# Fewer rows of a class (or, for a regression, twice as many rows) can be told apart by chance.
FEWEST = 10
# A figure of the rows in which a column is not null counts where those are at least this share.
_PRESENT = 0.1
_COPY = 1 - 1e-9


def judge_features(marked: DataFrame, dataset: Dataset, task: str, features: Literal["auto"] | Features) -> list[Finding]:
    """Return what is found about the columns that would become features; ``marked`` has ``split`` and ``fold`` and is read a few times.

    Of more than 200,000 rows about as many are looked at, chosen by a hash of the key; the balance of the label and what
    text cannot be read are those of all.

    - leakage: how well one column alone tells the label of the training rows. Two classes: the AUC of a number in its order, or of what
      its values (bins of a number, null as a value of its own) say about rows of other folds, whichever is greater; at most 0.001 off.
      Many classes: of the rows that the most frequent class gets wrong, the share that the most frequent class of the value, in other
      folds, gets right. Regression: the squared correlation of a number, or the R² of the mean of a value in other folds.
    - copy: a value stands for one class and a class for one value, or a number is the label times a constant plus another.
    - missing: how well being null alone tells the label. later: the share of rows in which an instant lies behind ``event_time``.
    - unreadable: the share of texts, of all rows, that cannot be read as the number, truth value or instant that they are declared as.
    - constant, duplicate, nulls (the share of nulls in train and test), balance: remarks.

    Where no label is declared, or it is not used, there is nothing to leak. Where it judges alone, a column that tells it is what the
    search is for, and only a copy blocks.

    The limits are 0.99 for an AUC and 0.98 for the others; figures of fewer than 10 rows of a class are not judged.
    """
    kind = TaskKind(task)
    checks, judged = checks_of(features), subjects(marked.schema, dataset, features)
    target = read_target(marked, dataset, kind)
    always = [*unreadable_findings(marked, features), *_balance(target)]
    if not judged.all:
        return always
    rows = marked.count()
    if rows > MOST_ROWS:
        marked = marked.where(is_chosen(key_hash(dataset, "looked at"), rows, MOST_ROWS))
        target = read_target(marked, dataset, kind)
    codes = coded(marked, judged, dataset, target)
    found = profile(codes, judged, target)
    findings: list[Finding] = []
    if checks.leakage != "off":
        leaks = _leaks(codes, judged, target, found, checks) if target.rows else ()
        findings += leaks if kind.learns_label else map(_softened, leaks)
        findings += _later(found, judged, dataset, checks)
    if checks.constant != "off":
        findings += _constants(found, checks)
    if checks.correlation != "off":
        findings += duplicates(codes, judged, found, checks.correlation)
    return [*findings, *_nulls(found), *always]


def _leaks(codes: DataFrame, judged: Subjects, target: Target, found: Profile, checks: Checks) -> Iterator[Finding]:
    """Yield the best figure of each column, a copy or null-ness in its stead where that says more."""
    known: dict[str, Mapping[str, Any]] = {}
    if judged.grouped and _is_enough(target):
        ask = many_classes if target.kind.has_many_classes else one_number
        known = ask(tall(codes, judged, found), target, judged, coarse_steps(judged, found))
    for name in judged.all:
        figures = {**found.columns[name], **known.get(name, {})}
        missing = _missing(figures, target, found)
        candidates = [
            *_copy(figures, target, found),
            *([("missing", *missing)] if missing else []),
            *(("leakage", *figure) for figure in _values(figures, target, found)),
        ]
        over = next((candidate for candidate in candidates if candidate[2] >= candidate[3]), None)
        best = over or max((c for c in candidates if c[0] == "leakage"), key=lambda candidate: candidate[2], default=None)
        if best is not None:
            yield _leak(name, *best, target=target, checks=checks, is_over=over is not None)


def _leak(name: str, check: str, measure: str, value: float, limit: float, *, target: Target, checks: Checks, is_over: bool) -> Finding:
    if not is_over:
        return Finding(check, name, measure, value, limit)
    if name in checks.allow:
        return Finding(check, name, measure, value, limit, "pass", "")
    said = {
        "copy": f"{name} is a copy of the label {target.name}, perhaps under other names ({measure} {value:.4g})",
        "missing": f"whether {name} is null tells {target.name} by itself ({measure} {value:.4g}, limit {limit:g})",
        "leakage": f"{name} tells {target.name} by itself ({measure} {value:.4g}, limit {limit:g})",
    }
    return Finding(check, name, measure, value, limit, checks.leakage, said[check])


def _softened(finding: Finding) -> Finding:
    return replace(finding, action="warn") if finding.action == "block" and finding.check != "copy" else finding


def _is_enough(target: Target) -> bool:
    if target.kind.predicts_number:
        return target.rows >= 2 * FEWEST and target.variance > 0
    return min(target.counts.values()) >= FEWEST if target.kind.has_two_classes else target.rows >= 2 * FEWEST


def _values(figures: Mapping[str, Any], target: Target, found: Profile) -> Iterator[tuple[str, float, float]]:
    """Yield measure, value and limit of what the values tell."""
    present = figures["present"]
    if target.kind.predicts_number:
        enough = present >= max(2 * FEWEST, _PRESENT * found.learned)
        if enough and figures.get("r") is not None and math.isfinite(figures["r"]):
            yield "r2", figures["r"] ** 2, R2_LIMIT
        if figures.get("groups") is not None:
            yield "r2 of its values", figures["groups"], R2_LIMIT
    elif target.kind.has_two_classes:
        enough = min(figures["one"], present - figures["one"]) >= FEWEST and present >= _PRESENT * found.learned
        if enough and figures.get("order") is not None:
            yield "areaUnderROC", max(figures["order"], 1 - figures["order"]), AUC_LIMIT
        if figures.get("groups") is not None:
            yield "areaUnderROC of its values", figures["groups"], AUC_LIMIT
    elif figures.get("groups") is not None:
        base = target.counts[target.most] / target.rows
        yield "share of errors its values mend", (figures["groups"] - base) / (1 - base) if base < 1 else 0.0, R2_LIMIT


def _copy(figures: Mapping[str, Any], target: Target, found: Profile) -> Iterator[tuple[str, str, float, float]]:
    present = figures["present"]
    if present < _PRESENT * found.learned or not _is_enough(target):
        return
    if target.kind.predicts_number:
        r = figures.get("r")
        if r is not None and math.isfinite(r) and present >= 2 * FEWEST and abs(r) >= _COPY:
            yield "copy", "r2", r * r, _COPY * _COPY
    elif target.kind.has_two_classes:
        sides = [(figures.get(f"low_{digit}"), figures.get(f"high_{digit}")) for digit in (0, 1)]
        is_pure = all(low is not None and low == high for low, high in sides) and sides[0] != sides[1]
        if is_pure and min(figures["one"], present - figures["one"]) >= FEWEST:
            yield "copy", "areaUnderROC", 1.0, AUC_LIMIT
    elif figures.get("is_copy"):
        yield "copy", "accuracy", 1.0, R2_LIMIT


def _missing(figures: Mapping[str, Any], target: Target, found: Profile) -> tuple[str, float, float] | None:
    """Return measure, value and limit of what being null tells; None where it cannot be said."""
    nulls = found.learned - figures["present"]
    if not nulls or not figures["present"] or not _is_enough(target):
        return None
    if target.kind.has_two_classes:
        ones = target.counts[target.greatest]
        share_of_ones = figures["one"] / ones
        share_of_zeros = (figures["present"] - figures["one"]) / (target.rows - ones)
        return "areaUnderROC", 0.5 + abs(share_of_ones - share_of_zeros) / 2, AUC_LIMIT
    if target.kind.predicts_number:
        of_nulls = figures["null_sum"] / nulls
        of_others = -of_nulls * nulls / figures["present"]
        between = (nulls * of_nulls**2 + figures["present"] * of_others**2) / target.rows
        return "r2", between / target.variance, R2_LIMIT
    return None


def _later(found: Profile, judged: Subjects, dataset: Dataset, checks: Checks) -> Iterator[Finding]:
    for name in judged.instants:
        figures = found.columns[name]
        if not figures.get("compared"):
            continue
        share = figures["later"] / figures["compared"]
        message = f"{name} lies after {dataset.event_time} in {share:.1%} of the training rows: it is known too late"
        if share == 0 or name in checks.allow:
            yield Finding("later", name, "share of rows", share, LATER_LIMIT)
        else:
            yield Finding("later", name, "share of rows", share, LATER_LIMIT, checks.leakage if share >= LATER_LIMIT else "warn", message)


def _constants(found: Profile, checks: Checks) -> Iterator[Finding]:
    for name, has_value in constant_columns(found):
        holds = "one value in all training rows that were looked at" if has_value else "no value in those training rows"
        follows = "it is no feature where columns are chosen by `auto`" if checks.constant == "drop" else "it says nothing"
        yield Finding("constant", name, "different values", float(has_value), 1.0, checks.constant, f"{name} holds {holds}: {follows}")


def _nulls(found: Profile) -> Iterator[Finding]:
    for name, figures in found.columns.items():
        if not found.train or not found.test:
            continue
        train, test = 1 - figures["train"] / found.train, 1 - figures["test"] / found.test
        shared = (2 * found.train - figures["train"] + found.test - figures["test"] - found.train) / (found.train + found.test)
        chance = 3 * math.sqrt(max(shared * (1 - shared), 0.0) * (1 / found.train + 1 / found.test))
        is_over = abs(train - test) >= max(NULLS_LIMIT, chance)
        message = f"{name} is null in {train:.1%} of the training rows and in {test:.1%} of the test rows" if is_over else ""
        yield Finding("nulls", name, "difference of null shares", abs(train - test), NULLS_LIMIT, "warn" if is_over else "pass", message)


def _balance(target: Target) -> Iterator[Finding]:
    shares = {value: count / target.rows for value, count in target.counts.items()} if target.rows else {}
    limit = MINORITY_LIMIT if target.kind.has_two_classes else MINORITY_LIMIT * 2 / max(len(shares), 2)
    for value, share in sorted(shares.items(), key=lambda item: item[1]):
        is_rare = share < limit
        message = f"only {share:.2%} of the labelled training rows have {target.name} = {value} ({target.counts[value]:,} rows)"
        yield Finding(
            "balance", target.name, "share of rows", share, limit, "warn" if is_rare else "pass", message if is_rare else "", str(value)
        )
