"""The two tiers of the suite: what runs each time, and what takes long (``slow``), of which a sample can be drawn."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
FOLDERS = ("slow", "e2e", "spark/steps", "spark/training", "spark", "unit")
"""Folders by the length of their tests: what takes longest begins first, so that all workers end at about the same time."""


def add_options(parser: pytest.Parser) -> None:
    """Add ``--sample``."""
    parser.addoption("--sample", type=int, metavar="SEED", help="of slow tests run one of each function or group, drawn by SEED")


def prepare_items(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests below tests/slow, check marks, draw the sample, and order what is left; a file is run by one worker."""
    for item in items:
        folder = _folder(item)
        if folder.split("/")[0] == "slow":
            item.add_marker(pytest.mark.slow)
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).with_suffix("").as_posix()))
        if (mark := item.get_closest_marker("long")) and not (mark.args and str(mark.args[0]).strip()):
            raise pytest.UsageError(f'{item.nodeid}: write the reason, as in @pytest.mark.long("trains eight models")')
    seed = config.getoption("sample")
    if seed is not None:
        items[:] = draw_sample(items, seed)
    items.sort(key=_place)


def draw_sample(items: Sequence[pytest.Item], seed: int) -> list[pytest.Item]:
    """Return the tests but for slow ones; of these one of each function, and of each group that is named by a mark ``one_of``."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            mark = item.get_closest_marker("one_of")
            name = str(mark.args[0]) if mark else item.nodeid.partition("[")[0]
            groups.setdefault(name, []).append(item)
    draw = random.Random(seed)
    chosen = {id(draw.choice(groups[name])) for name in sorted(groups)}
    return [item for item in items if not item.get_closest_marker("slow") or id(item) in chosen]


def parametrize_product(names: str, *axes: Iterable[object], but: Iterable[tuple[object, ...]] = ()) -> pytest.MarkDecorator:
    """Parametrize a test with all combinations; those beyond a cover of all pairs of values are slow.

    With two axes each value of each is in the cover. ``but`` are combinations that do not exist.
    """
    cases = [case for case in itertools.product(*axes) if case not in set(but)]
    return parametrize_cover(names, cases, pairs=min(2, len(axes) - 1))


def parametrize_cover(names: str, cases: Sequence[tuple[object, ...]], pairs: int = 1) -> pytest.MarkDecorator:
    """Parametrize a test with cases; a cover, in which each value (with ``pairs`` 2: each pair of values) occurs, is of the first tier."""
    cover = set(find_cover(cases, pairs))
    return pytest.mark.parametrize(
        names, [pytest.param(*case, marks=[] if place in cover else [pytest.mark.slow]) for place, case in enumerate(cases)]
    )


def parametrize_first(name: str, cases: Iterable[object], count: int) -> pytest.MarkDecorator:
    """Parametrize a test with cases, of which the first ``count`` are of the first tier."""
    return pytest.mark.parametrize(
        name, [pytest.param(case, marks=[] if place < count else [pytest.mark.slow]) for place, case in enumerate(cases)]
    )


def find_cover(cases: Sequence[tuple[object, ...]], size: int) -> list[int]:
    """Return the places of few cases in which every value, or pair of values, of all cases occurs; the first of those that bring most."""
    parts = [
        {(axes, tuple(repr(case[axis]) for axis in axes)) for axes in itertools.combinations(range(len(case)), size)} for case in cases
    ]
    missing = set().union(*parts)
    cover = []
    while missing:
        best = max(range(len(cases)), key=lambda place: (len(parts[place] & missing), -place))
        missing -= parts[best]
        cover.append(best)
    return sorted(cover)


def _folder(item: pytest.Item) -> str:
    return item.path.parent.relative_to(ROOT).as_posix()


def _place(item: pytest.Item) -> int:
    folder = _folder(item)
    return next((place for place, prefix in enumerate(FOLDERS) if f"{folder}/".startswith(f"{prefix}/")), len(FOLDERS))
