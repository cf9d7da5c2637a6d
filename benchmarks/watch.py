"""Watches processes while something is measured."""

from __future__ import annotations

import threading

import psutil


class Watch(threading.Thread):
    """Looks at all processes below ``root`` (this one where it is not given) until it is stopped; ``root`` itself counts where given.

    ``largest`` is the greatest resident memory of one of them, ``largest_named`` of one with ``named`` in its command, ``together`` that of
    all at one time, in bytes.
    """

    def __init__(self, root: int | None = None, named: str = "") -> None:
        """Begin."""
        super().__init__(daemon=True)
        self.largest = self.largest_named = self.together = 0
        self._named, self._are_named = named, dict[int, bool]()
        self._root, self._is_seen = psutil.Process(root), root is not None
        self._cpu: dict[int, float] = {}
        self._ended = threading.Event()
        self.start()

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of all processes seen, up to the last look at each."""
        return sum(self._cpu.values())

    def run(self) -> None:
        """Look every fifth of a second."""
        while not self._ended.wait(0.2):
            sizes = []
            try:
                processes = [*([self._root] if self._is_seen else []), *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    times = process.cpu_times()
                    sizes.append(process.memory_info().rss)
                    if self._is_named(process):
                        self.largest_named = max(self.largest_named, sizes[-1])
                except psutil.NoSuchProcess:
                    continue
                self._cpu[process.pid] = times.user + times.system
            self.largest, self.together = max([self.largest, *sizes]), max(self.together, sum(sizes))

    def _is_named(self, process: psutil.Process) -> bool:
        if process.pid not in self._are_named:
            self._are_named[process.pid] = bool(self._named) and any(self._named in word for word in process.cmdline())
        return self._are_named[process.pid]

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()
        self.join()
