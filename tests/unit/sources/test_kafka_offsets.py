"""Which offsets of a topic are read: each once, none passed over in silence; and what the options of a Kafka source say."""

import pytest

from tidemill.errors import SourceError, UsageError
from tidemill.sources.kafka.offsets import TopicPosition, parse_position, plan_ranges
from tidemill.sources.kafka.topics import Bounds, Topic, parse_topics
from tidemill.spec.models import Source


def topics(load: str = "incremental", **options: object):
    given = {"url": "host:9092", "table": "t"}
    if {"subscribePattern", "assign"} & set(options):
        del given["table"]
    return parse_topics(Source(format="kafka", load=load, options=options, **given))


def topic(*bounds: tuple[int, int], topic_id: str = "one") -> dict[str, Topic]:
    return {"t": Topic(topic_id, {number: Bounds(*pair) for number, pair in enumerate(bounds)})}


SINCE = TopicPosition({"t": {0: 5, 1: 3}}, {"t": "one"})


def test_a_position_survives_being_written_down() -> None:
    text = TopicPosition({"t": {10: 1, 9: 2}, "a": {0: 0}}, {"t": "one"}).to_json()
    assert text == '{"offsets": {"a": {"0": 0}, "t": {"9": 2, "10": 1}}, "ids": {"t": "one"}}'
    assert parse_position(text) == TopicPosition({"t": {10: 1, 9: 2}, "a": {0: 0}}, {"t": "one"})
    with pytest.raises(SourceError, match="something else"):
        parse_position('{"watermark": "2013-01-01"}')


def test_a_run_reads_from_the_position_and_new_partitions_from_their_beginning() -> None:
    found = plan_ranges(topics(), topic((0, 9), (2, 3), (4, 6)), SINCE)
    assert (found.starts, found.ends) == ({"t": {0: 5, 1: 3, 2: 4}}, {"t": {0: 9, 1: 3, 2: 6}})
    assert (found.size, found.position.offsets, found.notes) == (6, {"t": {0: 9, 1: 3, 2: 6}}, ())


@pytest.mark.parametrize(
    ("starting", "starts"),
    [("earliest", {0: 2, 1: 4}), ("latest", {0: 9, 1: 8}), ('{"t": {"0": 5, "1": -1}}', {0: 5, 1: 8}), ('{"t": {"0": 6}}', {0: 6, 1: 4})],
)
def test_the_first_run_begins_where_the_options_say(starting: str, starts: dict[int, int]) -> None:
    assert plan_ranges(topics(startingOffsets=starting), topic((2, 9), (4, 8)), None).starts == {"t": starts}


@pytest.mark.parametrize(
    ("there", "why", "starts"),
    [
        (topic((7, 9), (0, 3)), "offsets 5 to 6 were deleted before they were read", {0: 7, 1: 3}),
        (topic((0, 4), (0, 3)), "read up to offset 5, but ends at 4 now", {0: 0, 1: 3}),
        (topic((0, 50), (0, 60), topic_id="two"), "deleted and made anew", {0: 0, 1: 0}),
        (topic((0, 9)), "offset 3 of partition 1, which is gone", {0: 5}),
    ],
    ids=["expired", "cut off", "made anew with more", "partition gone"],
)
def test_what_is_lost_is_refused_unless_that_is_allowed(there, why: str, starts: dict[int, int]) -> None:
    with pytest.raises(SourceError, match=f"{why}.*failOnDataLoss: false"):
        plan_ranges(topics(), there, SINCE)
    found = plan_ranges(topics(failOnDataLoss=False), there, SINCE)
    assert found.starts == {"t": starts}
    assert why in found.notes[0]
    # One run that passes over the loss is enough: the next one begins where it ended.
    again = plan_ranges(topics(), there, found.position)
    assert (again.size, again.notes) == (0, ())


def test_a_topic_of_a_pattern_that_is_gone_is_a_loss() -> None:
    there = {"t": Topic(None, {}), "u": Topic("u", {0: Bounds(0, 1)})}
    with pytest.raises(SourceError, match=r"topic 't' was read up to .* which is gone"):
        plan_ranges(topics(subscribePattern=".*"), there, SINCE)
    assert plan_ranges(topics(subscribePattern=".*", failOnDataLoss=False), there, SINCE).position == TopicPosition(
        {"u": {0: 1}}, {"u": "u"}
    )


def test_topics_and_partitions_that_are_left_out_keep_their_position() -> None:
    there = {"u": Topic("u", {0: Bounds(0, 1)})}
    assert plan_ranges(topics(), there, SINCE).position.offsets == {"t": {0: 5, 1: 3}, "u": {0: 1}}
    assigned = {"t": Topic("one", {1: Bounds(0, 8)})}
    assert plan_ranges(topics(assign='{"t": [1]}'), assigned, SINCE).position.offsets == {"t": {0: 5, 1: 8}}


def test_a_limit_is_shared_out_and_every_partition_moves_on() -> None:
    limited = topics(maxOffsetsPerTrigger=10)
    there, position, runs = topic((0, 95), (0, 5), (0, 0)), None, []
    while True:
        found = plan_ranges(limited, there, position)
        if not found.size:
            break
        position = found.position
        runs.append(found.size)
    assert (sum(runs), max(runs) <= 11, position.offsets) == (100, True, {"t": {0: 95, 1: 5, 2: 0}})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"endingOffsets": "latest"}, "when it starts"),
        ({"startingOffsets": "yesterday"}, "expected earliest, latest or JSON"),
        ({"startingOfsets": "latest"}, "did you mean 'startingOffsets'"),
        ({"kafka.bootstrap.servers": "other:1"}, "`url:` says it already"),
        ({"subscribe": "u"}, "`table:` says it already"),
        ({"valueFormat": "avro"}, "json, text, binary"),
        ({"kafka.auto.offset.reset": "latest"}, "startingOffsets"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        topics(**options)


def test_a_limit_is_not_for_a_full_load() -> None:
    with pytest.raises(UsageError, match="incremental"):
        topics(load="full", maxOffsetsPerTrigger=5)


def test_secrets_are_in_no_text() -> None:
    jaas = 'org.x.PlainLoginModule required username="someone" password="hush-hush";'
    made = topics(**{"kafka.sasl.jaas.config": jaas, "kafka.ssl.truststore.password": "quiet"})
    told = made.mask_secrets(f"cannot log in: {jaas} with quiet; hush-hush is wrong")
    assert "hush-hush" not in told + repr(made) + made.place
    assert "quiet" not in told + repr(made)
    assert made.place == "kafka://host:9092/t"
