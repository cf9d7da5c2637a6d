"""What has been learnt of the same rows before: several plans on one fold share what they have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
Learnt = TypeVar("Learnt")


class Memo:
    """Learns each thing once; keys say all that it depends on, beside the rows.

    ``asked`` and ``done`` count the things that were wanted and those that had to be learnt.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: dict[Hashable, Any] = {}
        self._lock = threading.RLock()
        self.asked = self.done = 0

    def one(self, key: Hashable, learn: Callable[[], Learnt]) -> Learnt:
        """Return what ``learn`` gives, or gave for that key."""
        return self.each({key: None}, lambda _: {key: learn()})[key]

    def each(self, wanted: Mapping[Key, Any], learn: Callable[[Mapping[Key, Any]], Mapping[Key, Learnt]]) -> dict[Key, Learnt]:
        """Return what ``learn`` gives for the wanted things, together for those that are not known."""
        with self._lock:
            unknown = {key: value for key, value in wanted.items() if key not in self._known}
            self.asked += len(wanted)
            self.done += len(unknown)
            for key, learnt in learn(unknown).items() if unknown else ():
                self._known[key] = learnt
            return {key: self._known[key] for key in wanted}
