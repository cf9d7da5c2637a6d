"""Which of two classes is the positive one, as the step dataset says it."""

import pytest

from tidemill.spec.models import Dataset
from tidemill.steps.dataset.labels import describe_positive_class


def notes_of(totals, **keys):
    return describe_positive_class(Dataset(**{"from": "silver.rows"}, key=["id"], label="y", **keys), totals)


@pytest.mark.parametrize(
    ("totals", "positive", "negative", "remedy"),
    [
        ({"cancer": 30, "not cancer": 70}, "'not cancer', the label of 70 rows (70.0%)", "'cancer'", '"cancer"'),
        ({"not fraud": 99, "fraud": 1}, "'not fraud', the label of 99 rows (99.0%)", "'fraud'", '"fraud"'),
        ({1: 900, 0: 100}, "1, the label of 900 rows (90.0%)", "0", "0"),
        ({True: 6, False: 4}, "True, the label of 6 rows (60.0%)", "False", "false"),
        ({"no": 80, "yes": 20}, "'yes', the label of 20 rows (20.0%)", "'no'", None),
        ({False: 5, True: 5}, "True, the label of 5 rows (50.0%)", "False", None),
    ],
)
def test_the_positive_class_is_named_and_a_rarer_other_one_is_warned_of(totals, positive, negative, remedy):
    told, *warnings = notes_of(totals)
    assert told.endswith(f"since dataset.positive does not name one: {positive}; the other is {negative}")
    assert bool(warnings) == bool(remedy)
    if remedy:
        assert warnings[0].startswith(f"warning: {negative}, the rarer class of y")
        assert warnings[0].endswith(f"write `dataset: {{positive: {remedy}}}`")


def test_who_chose_the_positive_class_is_not_warned():
    [told] = notes_of({"cancer": 30, "not cancer": 70}, positive="Not Cancer")
    assert told.startswith("the positive class of y is 'Not Cancer', as dataset.positive says: 'not cancer', the label of 70 rows")
    [told] = notes_of({0: 1, 1: 2}, positive=0)
    assert "0, the label of 1 rows (33.3%); the other is 1" in told
