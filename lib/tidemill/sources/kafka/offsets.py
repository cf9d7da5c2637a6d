"""Plan the offsets that are read of each partition, so that nothing is read twice and no loss goes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.errors import SourceError, UsageError
from tidemill.sources.kafka.topics import Bounds, Topic, Topics

Offsets = Mapping[str, Mapping[int, int]]

_EARLIEST, _LATEST = -2, -1
_MAX_SHOWN = 3
_REMEDY = "; to go on with what is there, set options.failOnDataLoss: false for one run"


@dataclass(frozen=True)
class TopicPosition:
    """The next offset of each partition, and the ids of the topics (see ``Topic``)."""

    offsets: Offsets
    ids: Mapping[str, str]

    def to_json(self) -> str:
        """Return the position as canonical JSON; ``offsets`` has the form of Spark's ``startingOffsets``."""
        offsets = {name: {str(number): numbers[number] for number in sorted(numbers)} for name, numbers in self.offsets.items()}
        return json.dumps({"offsets": dict(sorted(offsets.items())), "ids": dict(sorted(self.ids.items()))}, ensure_ascii=False)


@dataclass(frozen=True)
class Ranges:
    """The offsets of one extract: from ``starts`` up to and excluding ``ends``; ``position`` is where the next one begins."""

    starts: Offsets
    ends: Offsets
    position: TopicPosition
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """The number of offsets in the ranges; there may be fewer records."""
        return sum(end - self.starts[name][number] for name, ends in self.ends.items() for number, end in ends.items())


def parse_position(text: str) -> TopicPosition:
    """Parse the position that ``TopicPosition.to_json`` wrote.

    Raises:
        SourceError: the text is no such position, so the table was loaded from something else.
    """
    try:
        position = json.loads(text)
        offsets = {name: {int(number): int(at) for number, at in numbers.items()} for name, numbers in position["offsets"].items()}
        return TopicPosition(offsets, {name: str(topic_id) for name, topic_id in position["ids"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"the table was loaded from something else than topics, up to {text}; load it under another name") from error


def plan_ranges(topics: Topics, there: Mapping[str, Topic], since: TopicPosition | None) -> Ranges:
    """Plan what to read now.

    A partition begins at its position. A partition without one was added later and begins at its oldest record. In the first run,
    ``startingOffsets`` decides.

    Raises:
        SourceError: records after the position are gone, or a topic was replaced, and ``failOnDataLoss`` is not false.
        UsageError: ``startingOffsets`` names a partition that does not exist.
    """
    losses: list[str] = []
    starts: dict[str, dict[int, int]] = {}
    if since is None:
        _check_starting(topics, there)
    for name, topic in there.items():
        known = {} if since is None else dict(since.offsets.get(name, {}))
        if since is not None and known and None not in (topic.id, since.ids.get(name)) and topic.id != since.ids[name]:
            losses.append(f"topic {name!r} is not the one that was read up to {_format_offsets(known)}: it was deleted and made anew")
            known = {}
        gone = {} if topics.assigned else {number: known[number] for number in sorted(set(known) - set(topic.partitions))}
        losses += [f"topic {name!r} was read up to {_format_offsets(gone)}, which is gone"] if gone else []
        starts[name] = {}
        for number, bounds in topic.partitions.items():
            wanted = _first_offset(topics, name, number, bounds) if since is None else known.get(number, bounds.earliest)
            starts[name][number], loss = _start_offset(name, number, bounds, wanted)
            losses += [loss] if loss else []
    if losses and not topics.may_lose:
        raise SourceError(_join_losses(losses) + _REMEDY)
    ends = _apply_limit(
        starts, {name: {number: at.latest for number, at in topic.partitions.items()} for name, topic in there.items()}, topics
    )
    left = sum(at.latest - ends[name][number] for name, topic in there.items() for number, at in topic.partitions.items())
    notes = ([f"passed over: {_join_losses(losses)}"] if losses else []) + ([f"{left} offsets are left for the next run"] if left else [])
    return Ranges(starts, ends, _next_position(topics, there, ends, since), tuple(notes))


def _first_offset(topics: Topics, name: str, number: int, bounds: Bounds) -> int:
    starting = topics.starting
    if isinstance(starting, str):
        return bounds.latest if starting == "latest" else bounds.earliest
    offset = starting.get(name, {}).get(number, _EARLIEST)
    return {_EARLIEST: bounds.earliest, _LATEST: bounds.latest}.get(offset, offset)


def _start_offset(name: str, number: int, bounds: Bounds, wanted: int) -> tuple[int, str | None]:
    """Return the first offset to read, and the loss if that is not the wanted one."""
    place = f"partition {number} of topic {name!r}"
    if wanted < bounds.earliest:
        gone = f"offsets {wanted} to {bounds.earliest - 1} were deleted before they were read (the topic keeps records too short a time?)"
        return bounds.earliest, f"{place}: {gone}"
    if wanted > bounds.latest:
        return bounds.earliest, f"{place} was read up to offset {wanted}, but ends at {bounds.latest} now: it was made anew or cut off"
    return wanted, None


def _apply_limit(starts: Offsets, ends: Offsets, topics: Topics) -> dict[str, dict[int, int]]:
    """Return the ends, reduced proportionally if there are more offsets than the limit."""
    total = sum(end - starts[name][number] for name, numbers in ends.items() for number, end in numbers.items())
    if topics.limit is None or total <= topics.limit:
        return {name: dict(numbers) for name, numbers in ends.items()}
    share = topics.limit / total
    return {
        name: {
            number: min(end, starts[name][number] + max(1, int((end - starts[name][number]) * share))) for number, end in numbers.items()
        }
        for name, numbers in ends.items()
    }


def _next_position(topics: Topics, there: Mapping[str, Topic], ends: Offsets, since: TopicPosition | None) -> TopicPosition:
    """Return the next position; topics and partitions that the source leaves out for now keep theirs, deleted ones do not."""
    offsets = {name: dict(numbers) for name, numbers in since.offsets.items()} if since else {}
    ids = dict(since.ids) if since else {}
    for name, topic in there.items():
        is_same = topic.id is None or ids.get(name) in (None, topic.id)
        known = offsets.pop(name, {}) if topics.assigned and is_same else {}
        ids.pop(name, None)
        offsets.pop(name, None)
        if topic.partitions:
            offsets[name] = known | dict(ends[name])
        if topic.partitions and topic.id is not None:
            ids[name] = topic.id
    return TopicPosition(offsets, ids)


def _check_starting(topics: Topics, there: Mapping[str, Topic]) -> None:
    if isinstance(topics.starting, str):
        return
    for name, numbers in topics.starting.items():
        unknown = [number for number in numbers if name not in there or number not in there[name].partitions]
        if unknown:
            raise UsageError(f"options.startingOffsets names partition {unknown[0]} of topic {name!r}, which is not read here")


def _format_offsets(offsets: Mapping[int, int]) -> str:
    return "offset " + ", ".join(f"{offset} of partition {number}" for number, offset in sorted(offsets.items())[:_MAX_SHOWN])


def _join_losses(losses: list[str]) -> str:
    more = len(losses) - _MAX_SHOWN
    return "; ".join(losses[:_MAX_SHOWN]) + (f"; and {more} more" if more > 0 else "")
