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
    """Make the modules of ``code`` (name to text) importable inside the block; each may import those before it.

    They do not stay importable: two models may hold different texts of one module, and what Spark ships to its Python workers is then
    pickled by value, since no worker could import it by name.
    """
    if not code:
        yield
        return
    with _LOADING:
        before = {name: sys.modules[name] for name in code if name in sys.modules}
        try:
            made = {name: _empty(name, code) for name in code}
            sys.modules.update(made)
            for name, module in made.items():
                package, _, own = name.rpartition(".")
                if package in made:
                    setattr(made[package], own, module)
            for name, text in code.items():
                exec(compile(text, f"<{name}, kept with the model>", "exec"), made[name].__dict__)
            yield
        finally:
            for name in code:
                sys.modules.pop(name, None)
            sys.modules.update(before)


def _empty(name: str, code: Mapping[str, str]) -> ModuleType:
    module = ModuleType(name)
    is_package = any(other.startswith(f"{name}.") for other in code)
    module.__package__ = name if is_package else name.rpartition(".")[0]
    if is_package:
        module.__path__ = []
    return module
