"""Extensions by name: built in, brought by an installed package, or given by a dotted Python path.

A `Registry` holds one kind of extension: source kinds, tasks, metrics, model families, feature groups, expectation kinds, drift methods.
Each extension is one object that declares its own options and capabilities, so that the spec's validation, the steps and the
documentation ask it instead of keeping tables of names. A name is looked up in this order:

1. built in: tidemill's own extensions, imported when they are first asked for;
2. an entry point of an installed package, in the group of the kind (``tidemill.families``, ``tidemill.sources``, …);
3. a dotted path (``functions.MyFamily``), found beside the spec, then among the installed modules. The folder of the spec is set by
   ``with search_beside(folder):``, which the loader of specs and the runner of steps use around all that they do.

Nothing here imports Spark.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from threading import RLock
from typing import Any, Generic, TypeVar

from tidemill.errors import TidemillError, UsageError, did_you_mean
from tidemill.runtime.user_code import load_object

T = TypeVar("T")
_FOLDER: ContextVar[Path | None] = ContextVar("tidemill_extension_folder", default=None)


@contextmanager
def search_beside(folder: Path | None) -> Iterator[None]:
    """Look dotted paths up in ``folder`` first, in this thread, for the duration of the block."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


class Registry(Generic[T]):
    """The extensions of one kind, by name.

    ``kind`` is the word for one of them in messages (``model family``). ``group`` is the entry-point group. ``built_in`` gives each
    built-in name its ``module:attribute``, or the extension itself. ``accept`` turns what a name stands for (an object, or a class to be
    made) into an extension, and raises TypeError with one sentence where it does not fit the interface.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str | T], accept: Callable[[str, Any], T]) -> None:
        """Keep the names; nothing is imported yet."""
        self.kind, self.group = kind, group
        self._built_in, self._accept = dict(built_in), accept
        self._loaded: dict[tuple[str, str], T] = {}
        self._lock = RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that need no dotted path: built-in ones in their order, then those of installed packages."""
        return (*self._built_in, *sorted(name for name in self._points() if name not in self._built_in))

    def __contains__(self, name: object) -> bool:
        """Return True for a name that needs no dotted path."""
        return name in self._built_in or name in self._points()

    def get(self, name: str, folder: Path | None = None) -> T:
        """Return the extension of that name; a dotted path is looked up in ``folder`` first, by default that of `search_beside`.

        Raises:
            UsageError: no extension has this name, it cannot be imported, or it does not fit the interface.
        """
        folder = folder or _FOLDER.get()
        with self._lock:
            if folder is None and "." in name:
                folder = self._only_folder(name)
            place = (name, str(folder) if "." in name else "")
            if place not in self._loaded or name not in self:  # the user's file may have changed: `load_object` keeps its own cache
                self._loaded[place] = self._load(name, folder)
            return self._loaded[place]

    def _only_folder(self, name: str) -> Path | None:
        """Return the folder that a dotted path was found for before, where there is one alone: threads do not inherit `search_beside`."""
        folders = {folder for loaded, folder in self._loaded if loaded == name}
        return Path(folders.pop()) if len(folders) == 1 and folders != {"None"} else None

    def dotted_path(self, name: str) -> str | None:
        """Return the dotted path of an extension that is not built in, by which its code is found; None for a built-in one."""
        if "." in name:
            return name
        return None if name in self._built_in or name not in self._points() else self._points()[name].value.replace(":", ".")

    def version(self, name: str) -> str:
        """Return the name and version of the installed package that brings an extension; empty for others."""
        package = self._points()[name].dist if name not in self._built_in and name in self._points() else None
        return f"{package.name} {package.version}" if package else ""

    def usable(self) -> dict[str, T]:
        """Return every extension that needs no dotted path, without those of installed packages that cannot be imported."""
        extensions = {}
        for name in self.names:
            with suppress(UsageError):  # it matters only to those who name it
                extensions[name] = self.get(name)
        return extensions

    def all_built_in(self) -> dict[str, T]:
        """Return every built-in extension, imported."""
        return {name: self.get(name) for name in self._built_in}

    def _points(self) -> Mapping[str, EntryPoint]:
        return _find_installed(entry_points, self.group, tuple(sys.path))

    def _load(self, name: str, folder: Path | None) -> T:
        points = self._points()
        if name in self._built_in and name in points:
            raise UsageError(
                f"the {self.kind} {name!r} of {points[name].value} has the name of a built-in one; rename its entry point in {self.group}"
            )
        try:
            if name in self._built_in:
                built_in = self._built_in[name]
                extension = import_attribute(built_in) if isinstance(built_in, str) else built_in
            elif name in points:
                extension = points[name].load()
            elif "." in name:
                extension = _load_dotted(name, folder)
            else:
                raise UsageError(
                    f"no {self.kind} is called {name!r}{did_you_mean(name, self.names)}; choose from {', '.join(self.names)}, "
                    "or give the dotted path of your own"
                )
            return self._accept(name, extension)
        except TidemillError:
            raise
        except (ImportError, AttributeError, TypeError) as error:
            raise UsageError(f"the {self.kind} {name!r} cannot be used: {error}") from error
        except Exception as error:
            raise UsageError(f"the {self.kind} {name!r} cannot be used: {type(error).__name__}: {error}") from error


@cache
def _find_installed(find: Callable[..., Iterable[EntryPoint]], group: str, search_path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name; looking for them opens every installed package, so once for each search path."""
    return {point.name: point for point in find(group=group)}


def describe(candidate: object) -> str:
    """Return what a message calls an object that does not fit an interface: its name, or the name of its class."""
    name = getattr(candidate, "__qualname__", None)
    return f"the {'class' if isinstance(candidate, type) else 'function'} {name}" if name else f"an object of {type(candidate).__name__}"


def load_beside(dotted: str) -> Any:
    """Import the object of a dotted path: from the folder of `search_beside` first, where one is set."""
    return _load_dotted(dotted, _FOLDER.get())


def import_attribute(path: str) -> Any:
    """Import what a declaration names by ``module:attribute``."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def _load_dotted(name: str, folder: Path | None) -> Any:
    if folder is not None:
        return load_object(folder, name)
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module) or import_module(module), attribute)
