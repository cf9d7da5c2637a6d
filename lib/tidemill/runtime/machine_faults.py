"""Errors that come from the machine (memory, disk, lost workers), as a sentence with a remedy."""

from __future__ import annotations

import re

_LESS_AT_ONCE = "run fewer tasks at once (TIDEMILL_MASTER='local[1]'), or use a machine with more memory"
# The pattern in the text of an error and its causes, and the message; `{}` is what the first group matched.
_FAULTS = (
    (
        r"No space left on device|Disk quota exceeded|There is not enough space on the disk",
        "no space is left on the disk{place}; free some and run again: what is finished stays as it is",
    ),
    (
        r"Python worker exited unexpectedly|Python worker failed to connect back|python worker.*crashed",
        "a Python worker of Spark ended without a word: it was killed, or it crashed; where the machine had no memory left, "
        f"{_LESS_AT_ONCE}; else look for native code that crashes",
    ),
    (
        r"java\.lang\.OutOfMemoryError(?:: ([^\n]+))?|^(Java heap space|GC overhead limit exceeded)",
        "Java has no memory left ({fault}); give it more: `spark.driver.memory` (on a cluster `spark.executor.memory` too) in the "
        "spark-defaults.conf of SPARK_CONF_DIR",
    ),
    (
        r"(?:^|[\s.])_?(\w*MemoryError[^\n]*)",
        f"Python has no memory left: {{fault}}; {_LESS_AT_ONCE}",
    ),
)
_PLACE = re.compile(r"(?:rows to |: ['\"])(?:file:)?(/[^\s'\"]+?)[.'\"]?(?:\s|$)")


def describe_machine_fault(text: str) -> str | None:
    """Return the message for a machine fault in ``text`` (an error and its causes), None where there is none."""
    for pattern, sentence in _FAULTS:
        match = re.search(pattern, text, re.MULTILINE)
        if match:
            place = _PLACE.search(text)
            fault = next((group for group in match.groups() if group), match.group()).strip().removesuffix(":")
            return sentence.format(place=f" of {place.group(1)}" if place else ", the lake's or that of temporary files", fault=fault)
    return None


def is_lost_worker(text: str) -> bool:
    """Return True where a Python worker of Spark ended unexpectedly."""
    return re.search(_FAULTS[1][0], text) is not None
