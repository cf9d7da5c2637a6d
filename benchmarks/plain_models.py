"""Measures what a pandas and scikit-learn user gets on the flights task: the same label, the same test months.

    python benchmarks/plain_models.py [--data data]

Columns of the timetable, the weather at the scheduled hour and the aircraft; histogram boosting and plain logistic regression;
November and December are the test set. Prints areaUnderROC and areaUnderPR (average precision) of both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tidemill.examples import write_demo_data

HOUR = ["origin", "year", "month", "day", "hour"]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
NUMBERS = ["month", "day", "weekday", "sched_dep_time", "sched_arr_time", "distance", *WEATHER, "built", "seats"]
CATEGORIES = ["carrier", "origin", "dest", "manufacturer"]


def examples(data: Path) -> pd.DataFrame:
    """Return the labelled flights with weather and aircraft."""
    flights = pd.concat([pd.read_csv(path) for path in sorted((data / "flights").glob("*.csv.gz"))], ignore_index=True)
    flights = flights[flights["arr_delay"].notna()].assign(late=lambda frame: frame["arr_delay"] > 30)
    weather = pd.read_json(data / "weather.jsonl", lines=True).drop_duplicates(HOUR)[[*HOUR, *WEATHER]]
    planes = pd.read_parquet(data / "planes.parquet").rename(columns={"year": "built"})[["tailnum", "built", "seats", "manufacturer"]]
    joined = flights.merge(weather, on=HOUR, how="left").merge(planes, on="tailnum", how="left")
    joined["weekday"] = pd.to_datetime(joined[["year", "month", "day"]]).dt.dayofweek
    joined[NUMBERS] = joined[NUMBERS].apply(pd.to_numeric, errors="coerce").astype(float)
    return joined.astype(dict.fromkeys(CATEGORIES, "category"))


def main() -> None:
    """Fit both models and print their test metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None)
    given = parser.parse_args().data
    with tempfile.TemporaryDirectory() as scratch:
        folder = given or Path(scratch)
        write_demo_data(folder)
        frame = examples(folder)
    columns, is_test = NUMBERS + CATEGORIES, frame["month"] >= 11
    train, test = frame[~is_test], frame[is_test]
    encoded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", min_frequency=20), CATEGORIES),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
    )
    models = {
        "histogram boosting, 200 rounds": HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=200, random_state=0),
        "plain logistic regression": make_pipeline(encoded, LogisticRegression(max_iter=200)),
    }
    for name, model in models.items():
        probability = model.fit(train[columns], train["late"]).predict_proba(test[columns])[:, 1]
        area, precision = roc_auc_score(test["late"], probability), average_precision_score(test["late"], probability)
        print(f"{name:<32} areaUnderROC {area:.4f}  areaUnderPR {precision:.4f}  ({len(test):,} test rows, {test['late'].mean():.4f} late)")


if __name__ == "__main__":
    main()
