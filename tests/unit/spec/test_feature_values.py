"""Parameters of the features that are tuned: where a path leads, and what is wrong with one, by line and key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.spec import load_spec
from tidemill.spec.models import Features, with_values

FEATURES = Features.model_validate(
    {
        "numeric": {"columns": ["a"]},
        "categorical": [{"columns": ["x"]}, {"columns": ["y"], "encode": "target"}],
        "text": {"columns": ["t"], "stages": ["clean", "tokens", {"ngrams": {"to": 3}}, "tfidf"]},
        "select": {"method": "univariate", "top": 5},
        "custom": [{"python": "functions.Own", "params": {"k": 1}}],
    }
)
METRIC = "metric: areaUnderPR"


def test_each_value_is_put_where_its_path_leads_and_nowhere_else() -> None:
    values = {
        "numeric.scale": "robust", "categorical.1.smoothing": 3.0, "text.stages.tfidf.min_df": 4, "text.stages.ngrams.to": 2,
        "select.top": 9, "custom.0.params.k": 7,
    }  # fmt: skip
    actual = with_values(FEATURES, values)
    assert actual.numeric.scale == "robust"
    assert [block.smoothing for block in actual.categorical] == [FEATURES.categorical[0].smoothing, 3.0]
    [texts] = actual.texts
    assert (texts.steps[-1].min_df, texts.steps[-2].lengths) == (4, (1, 2))
    assert (actual.select.top, actual.custom[0].params) == (9, {"k": 7})
    assert with_values(actual, {"numeric.scale": "standard"}).numeric == FEATURES.numeric


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ("{numeric.scale: [standard, robst]}", "numeric.scale",
         "numeric.scale: 'robst' does not fit into `features`: Input should be 'standard', 'minmax', 'robust' or 'none'"),
        ("{numeric.scal: [1]}", "numeric.scal", "numeric.scal: 1 does not fit into `features`: there is no such key"),
        ("{categorical.encode: [onehot]}", "categorical.encode",
         "there is no 'categorical.encode' in `features`: nothing is declared at 'categorical'"),
        ("{numeric.columns: [a]}", "numeric.columns",
         "'numeric.columns' is no parameter of a feature group; write such as `numeric.scale`"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_and_a_value_that_does_not_fit(
    faults: Callable, changed: Callable, given: str, key: str, message: str
) -> None:
    assert faults(changed(METRIC, f"{METRIC}\n  features: {given}")) == [(27, f"training.features.{key}", message)]


def test_what_auto_chooses_is_not_tuned(faults: Callable, changed: Callable) -> None:
    text = changed(METRIC, f"{METRIC}\n  features: {{numeric.scale: [robust]}}").replace(
        "features:\n  numeric: {columns: [distance]}\n", ""
    )
    [(_, key, message)] = faults(text)
    assert (key, message.partition(";")[0]) == ("training.features", "`features` is `auto`, which chooses by itself")


def test_a_space_of_features_is_read(write: Callable, changed: Callable) -> None:
    text = changed(
        METRIC,
        f"{METRIC}\n  features: {{numeric.scale: [standard, robust], numeric.impute: [median, mean]}}\n  tuner: {{trial_timeout: 5m}}",
    )
    training = load_spec(write(text), environ={}).pipeline.training
    assert training.features == {"numeric.scale": ["standard", "robust"], "numeric.impute": ["median", "mean"]}
    assert training.tuner.trial_timeout == "5m"
