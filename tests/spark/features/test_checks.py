"""What the checks find, against pandas and scikit-learn on the same rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tidemill.features.checks import feature_checks, run_feature_checks
from tidemill.features.checks.findings import format_notes, format_refusal
from tidemill.spec.models import Dataset, Features

ROWS = 2000
DATASET = Dataset.model_validate({"from": "silver.x", "key": ["id"], "label": "y", "event_time": "at", "exclude": ["gone"]})


def _marks(n):
    train = np.arange(n) < n * 0.8
    return {"split": np.where(train, "train", "test"), "fold": np.where(train, np.arange(n) % 3, -1)}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    n = ROWS
    y = rng.random(n) < 0.2
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="h")
    noisy = y + rng.normal(0, 0.26, n)
    code = rng.integers(0, 40, n)
    return pd.DataFrame(
        {
            "id": np.arange(n), "y": y, "at": at,
            "noise": rng.normal(size=n), "near": noisy, "far": y + rng.normal(0, 1.0, n), "backwards": -(y + rng.normal(0, 0.1, n)),
            "flag": ~y, "word": np.where(y, "oui", "non"), "digit": np.where(y, 1, 0), "ticket": [f"t{i * 7919 % n}" for i in range(n)],
            # Odd numbers of one to twenty say yes, the even ones no: no order tells it, but each value does.
            "parity": np.where(y, rng.integers(0, 20, n) * 2 + 1, rng.integers(0, 20, n) * 2), "code": code, "twin": code,
            "closed_at": at + pd.to_timedelta(np.where(y, 3, -1), unit="h"),
            "opened_at": at - pd.Timedelta(days=1), "day": at.normalize(), "paid": np.where(y, rng.normal(size=n), np.nan),
            "same": 7, "almost": code * 2.0 + rng.normal(0, 0.01, n), "gone": y, "sparse": np.where(np.arange(n) < n * 0.8, 1.5, np.nan),
            **_marks(n),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def frame(spark, data):
    frame = spark.createDataFrame(data)
    numbers = [f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" for name in ("paid", "sparse")]
    others = [name for name in data.columns if name not in ("paid", "sparse", "day", "fold")]
    frame = frame.selectExpr(*others, *numbers, "CAST(day AS DATE) AS day", "CASE WHEN fold >= 0 THEN CAST(fold AS INT) END AS fold")
    frame = frame.repartition(3).persist()
    yield frame
    frame.unpersist()


@pytest.fixture(scope="module")
def findings(frame):
    return run_feature_checks(frame, DATASET, "binary", "auto")


def _of(findings, *checks):
    return {finding.column: finding for finding in findings if finding.check in checks}


def test_columns_that_tell_the_label_are_blocked_and_named(findings):
    blocked = {finding.column: finding.check for finding in findings if finding.action == "block"}
    assert blocked == {
        "near": "leakage", "backwards": "leakage", "parity": "leakage", "flag": "copy", "word": "copy", "digit": "copy",
        "paid": "missing", "closed_at": "later",
    }  # fmt: skip
    message = format_refusal(findings)
    assert "near predicts y by itself (areaUnderROC 0.99" in message
    assert "word is a copy of the label y" in message
    assert "whether paid is null predicts y by itself (areaUnderROC 1, limit 0.99)" in message
    assert "closed_at is later than at in 19.9% of the training rows" in message or "closed_at is later than at in 20." in message
    assert "`dataset.exclude: [near, " in message


def test_the_auc_of_a_number_is_scikit_learns_within_its_bound(findings, data):
    train = data[data["split"] == "train"]
    leaks = _of(findings, "leakage")
    for name in ("near", "far", "backwards", "noise"):
        exact = roc_auc_score(train["y"], train[name])
        assert leaks[name].value == pytest.approx(max(exact, 1 - exact), abs=1e-3 if name != "noise" else 0.05), name


def test_what_values_say_is_learnt_from_other_folds(findings, data):
    train = data[data["split"] == "train"].drop(columns=["sparse"])
    totals, share = train.groupby("code")["y"].agg(["sum", "count"]), train["y"].mean()
    own = train.groupby(["code", "fold"])["y"].agg(["sum", "count"]).reset_index().merge(totals, on="code", suffixes=("", "_all"))
    own["said"] = (own["sum_all"] - own["sum"] + 0.01 * share) / (own["count_all"] - own["count"] + 0.01)
    scored = train.merge(own[["code", "fold", "said"]], on=["code", "fold"])
    by_order = roc_auc_score(train["y"], train["code"])
    expected = max(by_order, 1 - by_order, roc_auc_score(scored["y"], scored["said"].round(5)))
    assert _of(findings, "leakage")["code"].value == pytest.approx(expected, abs=1e-9)
    assert _of(findings, "leakage")["ticket"].value == pytest.approx(0.5)


def test_constants_duplicates_nulls_and_balance_are_remarks(findings, data):
    assert set(_of(findings, "constant")) == {"same", "sparse"}
    twins = {(finding.column, finding.other) for finding in findings if finding.check == "duplicate"}
    assert ("twin", "code") in twins
    assert ("almost", "code") in twins
    nulls = {finding.column: finding for finding in findings if finding.check == "nulls" and finding.action == "warn"}
    assert nulls["sparse"].message == "sparse is null in 0.0% of the training rows and in 100.0% of the test rows"
    assert all(finding.action == "pass" for finding in findings if finding.check == "balance")
    assert "day" not in {finding.column for finding in findings if finding.action == "warn"}
    assert any("same holds one value in all checked training rows" in remark for remark in format_notes(findings))


def test_only_what_would_become_a_feature_is_judged(frame):
    declared = Features.model_validate({"numeric": {"columns": ["noise", "far"]}, "categorical": {"columns": ["code"]}})
    assert {finding.column for finding in run_feature_checks(frame, DATASET, "binary", declared)} == {"noise", "far", "code", "y"}


def test_a_label_that_only_judges_or_none_leaks_less(frame):
    some = Features.model_validate({"numeric": {"columns": ["near", "digit", "code", "twin", "almost", "same"]}})
    judging = run_feature_checks(frame, DATASET, "anomaly", some)
    assert {(finding.column, finding.check) for finding in judging if finding.action == "block"} == {("digit", "copy")}
    assert _of(judging, "leakage")["near"].action == "warn"
    without = DATASET.model_copy(update={"label": None})
    for dataset, task in ((without, "clustering"), (without, "anomaly"), (DATASET, "clustering")):
        free = run_feature_checks(frame.drop("y") if dataset is without else frame, dataset, task, some)
        assert {(finding.check, finding.column) for finding in free if finding.action != "pass"} == {
            ("constant", "same"), ("duplicate", "twin"), ("duplicate", "almost"),
        }  # fmt: skip
        assert not _of(free, "leakage", "copy", "missing", "balance")


def test_checks_may_warn_be_off_or_allow(frame):
    numbers = {"columns": ["near", "noise"]}
    warned = run_feature_checks(frame, DATASET, "binary", Features.model_validate({"numeric": numbers, "checks": {"leakage": "warn"}}))
    assert format_refusal(warned) is None
    assert any("near predicts y by itself" in remark for remark in format_notes(warned))
    off = run_feature_checks(frame, DATASET, "binary", Features.model_validate({"numeric": numbers, "checks": {"leakage": "off"}}))
    assert {finding.check for finding in off} == {"nulls", "balance"}
    allowed = run_feature_checks(frame, DATASET, "binary", Features.model_validate({"numeric": numbers, "checks": {"allow": ["near"]}}))
    assert (format_refusal(allowed), _of(allowed, "leakage")["near"].action) == (None, "pass")


def test_a_label_of_many_classes(spark):
    rng = np.random.default_rng(8)
    n = 900
    y = rng.choice(["red", "green", "blue"], n)
    names = {"red": "r", "green": "g", "blue": "b"}
    data = pd.DataFrame(
        {
            "id": np.arange(n), "y": y, "short": [names[value] for value in y], "noise": rng.normal(size=n),
            "wave": [{"red": 650, "green": 530, "blue": 470}[value] + 5 * rng.normal() for value in y],
            "ticket": [f"t{i}" for i in range(n)], "half": np.where(rng.random(n) < 0.5, [names[value] for value in y], "?"), **_marks(n),
        }
    )  # fmt: skip
    dataset = Dataset.model_validate({"from": "silver.x", "key": ["id"], "label": "y"})
    findings = run_feature_checks(spark.createDataFrame(data).withColumn("fold", data_fold()), dataset, "multiclass", "auto")
    assert {f.column: f.check for f in findings if f.action == "block"} == {"short": "copy"}
    train = data[data["split"] == "train"]
    base = train["y"].value_counts(normalize=True).max()
    # Of the rows with "?", the most frequent class among those of the other folds is right.
    hidden = train[train["half"] == "?"]
    right = (train["half"] != "?").sum() + sum(
        (rows["y"] == hidden[hidden["fold"] != fold]["y"].value_counts().idxmax()).sum() for fold, rows in hidden.groupby("fold")
    )
    expected = (right / len(train) - base) / (1 - base)
    assert _of(findings, "leakage")["half"].value == pytest.approx(expected)
    assert _of(findings, "leakage")["ticket"].value == pytest.approx(0.0)


def data_fold():
    from pyspark.sql import functions as F

    return F.when(F.col("fold") >= 0, F.col("fold")).cast("int")


def test_a_label_that_is_a_number(spark):
    rng = np.random.default_rng(9)
    n = 1500
    y = 1000 + rng.normal(size=n) * 50
    place = rng.integers(0, 30, n)
    y = y + place * 300
    data = pd.DataFrame(
        {
            "id": np.arange(n), "y": y, "negated": -2 * y + 7, "close": y + rng.normal(0, 100, n), "curved": np.exp((y - 5000) / 1500),
            "place": [f"p{i * 17 % 31}" for i in place], "loose": [f"q{i // 10}" for i in place], "noise": rng.normal(size=n),
            "ticket": [f"t{i}" for i in range(n)], **_marks(n),
        }
    )  # fmt: skip
    dataset = Dataset.model_validate({"from": "silver.x", "key": ["id"], "label": "y"})
    findings = run_feature_checks(spark.createDataFrame(data).withColumn("fold", data_fold()), dataset, "regression", "auto")
    blocked = {f.column: (f.check, f.measure) for f in findings if f.action == "block"}
    train = data[data["split"] == "train"]
    assert blocked["negated"] == ("copy", "r2")
    assert blocked["curved"] == ("leakage", "r2 of its values")
    assert blocked["place"] == ("leakage", "r2 of its values")
    assert "loose" not in blocked
    leaks = _of(findings, "leakage")
    assert leaks["close"].value == pytest.approx(np.corrcoef(train["close"], train["y"])[0, 1] ** 2)
    message = pd.Series(0.0, index=train.index)
    for fold in range(3):
        means = train[train["fold"] != fold].groupby("loose")["y"].mean()
        message[train["fold"] == fold] = train.loc[train["fold"] == fold, "loose"].map(means)
    expected = 1 - ((train["y"] - message) ** 2).sum() / ((train["y"] - train["y"].mean()) ** 2).sum()
    assert leaks["loose"].value == pytest.approx(expected)


def test_of_many_rows_some_are_looked_at(frame, data, monkeypatch):
    monkeypatch.setattr(feature_checks, "MAX_ROWS", 800)
    some = run_feature_checks(frame, DATASET, "binary", "auto")
    blocked = {finding.column for finding in some if finding.action == "block"}
    assert {"flag", "word", "digit", "backwards", "closed_at", "paid"} <= blocked
    assert not {"noise", "ticket", "code", "opened_at"} & blocked
    [balance] = [finding for finding in some if finding.check == "balance" and finding.message == "" and finding.value < 0.5]
    trained = data[data["split"] == "train"]
    assert balance.value == pytest.approx(trained["y"].mean())


def test_text_that_cannot_be_read_as_declared_is_counted_and_above_one_percent_refused(spark):
    n = 400
    rows = [
        (
            i,
            i % 2,
            "1,234.50" if i % 4 == 0 else f" {i}.5 ",  # 100 of 400
            f"{i % 28 + 1:02d}.02.2024" if i < 300 else ("2024-02-01 10:00:00" if i < 350 else None),  # 300 of 350
            ("Ja", "Nein")[i % 2],  # 400 of 400
            "n/a" if i == 7 else "" if i < 7 else str(i),  # 1 of 393
            "oops" if i < 50 else "NaN" if i < 100 else "1e3",  # 50 of 400
            f"{i}.25",
            "x",
        )
        for i in range(n)
    ]
    texts = ("price", "joined", "member", "rare", "ok", "fine", "word")
    frame = spark.createDataFrame(rows, ", ".join(["id INT", "y INT", *(f"{name} STRING" for name in texts)]))
    frame = frame.selectExpr("*", "IF(id < 320, 'train', 'test') AS split", "IF(id < 320, id % 3, NULL) AS fold")
    features = Features.model_validate(
        {
            "numeric": {"columns": ["price", "rare", "fine"]},
            "buckets": {"columns": ["ok", "price"], "quantiles": 4},
            "boolean": {"columns": ["member"]},
            "datetime": {"columns": ["joined"], "parts": ["month"]},
            "categorical": {"columns": ["word"]},
            "checks": {"allow": ["ok"], "leakage": "off"},
        }
    )
    dataset = Dataset.model_validate({"from": "silver.x", "key": ["id"], "label": "y"})
    findings = [each for each in run_feature_checks(frame, dataset, "binary", features) if each.check == "unreadable"]
    assert {each.column: (each.value, each.action) for each in findings} == {
        "price": (0.25, "block"),
        "rare": (pytest.approx(1 / 393), "warn"),
        "fine": (0.0, "pass"),
        "ok": (0.125, "warn"),
        "member": (1.0, "block"),
        "joined": (pytest.approx(300 / 350), "block"),
    }
    message = format_refusal(findings)
    assert "price: 100 of 400 texts cannot be read as a number, such as '1,234.50'" in message
    assert "member: 400 of 400 texts cannot be read as a truth value, such as 'Ja' and 'Nein'" in message
    assert "joined: 300 of 350 texts cannot be read as an instant, such as '01.02.2024' and '28.02.2024'" in message
    assert "`features.checks.allow: [price, member, joined]`" in message
    assert any(remark.startswith("rare: 1 of 393 texts cannot be read as a number, such as 'n/a'") for remark in format_notes(findings))
