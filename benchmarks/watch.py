"""Watches processes while something is measured."""

from __future__ import annotations

import threading

import psutil


class Watch(threading.Thread):
    """Looks at all processes below ``root`` (this one where it is not given) until it is stopped; ``root`` itself counts where given.

    ``largest`` is the greatest resident memory of one of them, ``together`` that of all at one time, in bytes.
    """

    def __init__(self, root: int | None = None) -> None:
        """Begin."""
        super().__init__(daemon=True)
        self.largest = self.together = 0
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
                except psutil.NoSuchProcess:
                    continue
                self._cpu[process.pid] = times.user + times.system
            self.largest, self.together = max([self.largest, *sizes]), max(self.together, sum(sizes))

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()
        self.join()
