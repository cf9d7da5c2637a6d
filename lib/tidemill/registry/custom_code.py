"""The Python of custom stages, kept with the model: it is run again where the model is loaded, whatever lies beside the spec by then."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from types import ModuleType

_LOADING = RLock()  # sys.modules belongs to the whole process


@contextmanager
def modules(code: Mapping[str, str]) -> Iterator[None]:
    """Make the modules of ``code`` (name to text) importable inside the block.

    They do not stay importable: two models may hold different texts of one module, and what Spark ships to its Python workers is then
    pickled by value, since no worker could import it by name.
    """
    if not code:
        yield
        return
    with _LOADING:
        try:
            for name, text in code.items():
                module = ModuleType(name)
                sys.modules[name] = module
                exec(compile(text, f"<{name}, kept with the model>", "exec"), module.__dict__)
            yield
        finally:
            for name in code:
                sys.modules.pop(name, None)
