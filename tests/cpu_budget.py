"""The CPU seconds of each test, and the limit that a test of the first tier may not cross without a reason."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT_S = 8.0
"""CPU seconds of a test, on a quiet machine of the kind that the suite is measured on. A new test should stay below 5: see ``--cpu``."""
REFERENCE_S = 0.020
"""CPU seconds of ``run_reference_work`` on that machine."""
_TICKS = os.sysconf("SC_CLK_TCK")


def run_reference_work() -> int:
    """Compute something that takes 20 ms of CPU on the machine of reference, and as much more as a slower one needs."""
    total = 0
    for number in range(400_000):
        total += number * number % 7
    return total


def measure_slowness(repeats: int = 7) -> float:
    """Return how much slower this machine is than that of reference, 1.0 where it is as fast or faster.

    The least of several times counts: what others do at the same time only adds to it.
    """
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run_reference_work()
        times.append(time.process_time() - started)
    return max(1.0, min(times) / REFERENCE_S)


def read_cpu_seconds(root: int) -> dict[int, float]:
    """Return the CPU seconds of a process and of all below it (the JVM, Python workers), with those of children that ended."""
    children: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    with os.scandir("/proc") as entries:
        pids = [entry.name for entry in entries if entry.name.isdigit()]
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(pid))
        seconds[int(pid)] = sum(map(int, fields[11:15])) / _TICKS
    tree, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        if pid in seconds:
            tree[pid] = seconds[pid]
        waiting += children.get(pid, [])
    return tree


def sum_new_seconds(before: dict[int, float], after: dict[int, float]) -> float:
    """Return the CPU seconds between two looks at a process tree; a process that has vanished counts nothing."""
    return sum(value - before.get(pid, 0.0) for pid, value in after.items())


class CpuBudget:
    """Measures each test, fails those beyond the limit, and lists the longest where ``--cpu N`` asks for them."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        """Calibrate the limit to this machine."""
        self.limit_s = limit_s
        self.slowness = measure_slowness()
        self._before: dict[int, float] = {}
        self._shared_s = 0.0
        self._depth = 0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Begin to count."""
        self._before, self._shared_s = read_cpu_seconds(os.getpid()), 0.0
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
        """Leave out what all tests share: whichever test comes first would have to pay for it."""
        if fixturedef.scope != "session" or self._depth:
            return (yield)
        before = read_cpu_seconds(os.getpid())
        self._depth += 1
        try:
            return (yield)
        finally:
            self._depth -= 1
            self._shared_s += sum_new_seconds(before, read_cpu_seconds(os.getpid()))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Judge a test that has passed."""
        outcome = yield
        used_s = sum_new_seconds(self._before, read_cpu_seconds(os.getpid())) - self._shared_s
        item.user_properties.append(("cpu_s", round(used_s, 2)))
        if fault := self.explain_excess(item, used_s):
            pytest.fail(fault, pytrace=False)
        return outcome

    def explain_excess(self, item: pytest.Item, used_s: float) -> str | None:
        """Return what is wrong with a test that used so many CPU seconds, None where nothing is."""
        if item.get_closest_marker("slow") or item.get_closest_marker("long") or used_s <= self.limit_s * self.slowness:
            return None
        self.slowness = max(self.slowness, measure_slowness())  # something may have slowed the machine down since
        if used_s <= self.limit_s * self.slowness:
            return None
        return (
            f"used {used_s:.1f} CPU seconds (this process, the JVM and Python workers; without fixtures of the session); "
            f"the first tier allows {self.limit_s:g}, on this machine {self.limit_s * self.slowness:.1f}. "
            'Make it cheaper, move it to tests/slow, or mark it: @pytest.mark.long("why it needs more")'
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """List the longest tests."""
        count = config.getoption("cpu")
        if not count:
            return
        reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind) if report.when == "call"]
        used = sorted(((dict(report.user_properties).get("cpu_s", 0.0), report.nodeid) for report in reports), reverse=True)
        total = sum(seconds for seconds, _ in used)
        terminalreporter.section(f"CPU seconds: {total:.0f} in {len(used)} tests; the {min(count, len(used))} longest")
        for seconds, name in used[:count]:
            terminalreporter.write_line(f"{seconds:8.1f}  {name}")


def add_options(parser: pytest.Parser) -> None:
    """Add ``--cpu``."""
    parser.addoption("--cpu", type=int, default=0, metavar="N", help="list the N tests with the most CPU seconds")


def is_supported() -> bool:
    """Return True where the kernel tells the CPU seconds of other processes."""
    return sys.platform == "linux"
