"""Which conditions may be asked twice of the same row."""

import pytest

from tidemill.quality.expectations.conditions import is_repeatable


@pytest.mark.parametrize(
    "condition",
    [
        "year = 2013",
        "origin IN ('EWR', 'JFK')",
        "length(carrier) = 2 -- letters",
        "unix_timestamp(at) > 3",
        "d > DATE'2013-01-01'",
        "a % 2 < 1",
    ],
)
def test_what_depends_on_the_row_alone_is_repeatable(condition) -> None:
    assert is_repeatable(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "rand() < 0.5",
        "size > 0 AND random(3) > 0.1",
        "at <= now()",
        "at <= current_timestamp()",
        "day <= current_date",
        "local < localtimestamp",
        "unix_timestamp() > 3",
        "uuid() <> name",
        "shuffle(parts)[0] = 1",
        "randstr(3) <> name",
        "uniform(0, 1) < 1",
        "monotonically_increasing_id() < 3",
        "my_function(size) > 0",
        "EXISTS (SELECT 1)",
        "size >",
    ],
)
def test_what_may_change_or_is_not_known_is_not(condition) -> None:
    assert not is_repeatable(condition)
