"""The user's own Python, referenced by a dotted name: beside the spec, else installed. It cannot end the process."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

from tidemill.errors import StepError, UsageError, did_you_mean

_PACKAGE = str(Path(__file__).parents[1])
_NOT_THE_USERS = ("site-packages", "dist-packages", "/pyspark/", "/lib/python3", _PACKAGE)


@contextmanager
def contain_exit(name: str) -> Iterator[None]:
    """Raise StepError for a `sys.exit()` in the block, and for what else is no Exception, of the user's code that ``name`` names.

    An interrupt (Ctrl-C) stays one.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise StepError(f"{name} {describe_exit(error)}") from error


def describe_exit(error: BaseException) -> str:
    """Return the description of user code that raised ``error``, which is no Exception: ``called sys.exit(0) (file, line, in f); …``."""
    frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    place = locate_user_code(frames)
    if isinstance(error, SystemExit):
        status = "" if error.code is None else repr(error.code)
        return f"called sys.exit({status}){place}; it must return, or raise an Exception that says what is wrong"
    message = str(error).strip().partition("\n")[0]
    raised = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"raised {raised}{place}, which is no Exception; it must return, or raise an Exception"


def locate_user_code(frames: list[tuple[str, int, str]]) -> str:
    """Return `` (functions.py, line 3, in clean)``, the last frame (file, line, function) outside libraries; empty without one."""
    own = [frame for frame in frames if not any(part in frame[0] for part in _NOT_THE_USERS)]
    if not own:
        return ""
    file, number, name = own[-1]
    return f" ({Path(file).name}, line {number}, in {name})"


def module_file(folder: Path, dotted: str) -> Path:
    """Return the file that defines ``dotted``; a module beside the spec comes before an installed one.

    Raises:
        UsageError: there is no such module.
    """
    own = own_file(folder, dotted)
    if own is not None:
        return own
    module = dotted.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        expected = folder / f"{module.replace('.', '/')}.py"
        near = did_you_mean(module, [path.stem for path in folder.glob("*.py")])
        raise UsageError(f"module {module!r} not found: no file {expected}, and nothing installed has this name{near}")
    return Path(spec.origin)


def own_file(folder: Path, dotted: str) -> Path | None:
    """Return the file beside the spec that defines ``dotted``, or None."""
    return _find_file(folder.joinpath(*dotted.split(".")[:-1]))


def _find_file(place: Path) -> Path | None:
    """Return the file of the module or package at ``place``; None where there is none."""
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def read_own_imports(folder: Path, file: Path) -> dict[str, str]:
    """Return the text of each module beside the spec that a file there imports, by the imported name.

    Each comes after the modules that it imports, unless they import each other.

    Raises:
        UsageError: one of the files is not valid Python.
    """
    texts: dict[str, str] = {}
    visited: set[str] = set()

    def follow(importing: Path, name: str) -> None:
        for imported in _find_imports(importing, name):
            parts = imported.split(".")
            for count in range(1, len(parts) + 1):
                own, place = ".".join(parts[:count]), folder.joinpath(*parts[:count])
                path = _find_file(place)
                if path is None and not place.is_dir():
                    break
                if own in visited:
                    continue
                visited.add(own)
                if path is not None:
                    follow(path, f"{own}." if path.name == "__init__.py" else own)
                texts[own] = path.read_text(encoding="utf-8", errors="replace") if path else ""

    follow(file, "")
    return texts


def _find_imports(file: Path, name: str) -> Iterator[str]:
    """Yield the modules that the imports of a file may denote; ``name`` is its own name, with a final dot for a package."""
    for statement in ast.walk(_parse_file(file)):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = name.split(".")[: -statement.level] if statement.level else []
            base = ".".join([*above, *([statement.module] if statement.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in statement.names)


def _parse_file(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise UsageError(f"{file}:{error.lineno}: not valid Python: {error.msg}") from error


def defined_names(file: Path) -> dict[str, list[str] | None]:
    """Return the names a module defines, each with its parameters (None where it is no function), without running it.

    Raises:
        UsageError: the file is not valid Python.
    """
    tree = _parse_file(file)
    names: dict[str, list[str] | None] = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names[statement.name] = [parameter.arg for parameter in (*statement.args.posonlyargs, *statement.args.args)]
        elif isinstance(statement, ast.ClassDef):
            names[statement.name] = None
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0]: None for alias in statement.names}
        else:
            names |= {node.id: None for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names


def parameter_names(folder: Path, dotted: str) -> list[str] | None:
    """Return the parameters of a function by reading its file; None where they cannot be determined.

    Raises:
        UsageError: the module or the name in it does not exist.
    """
    file, name = module_file(folder, dotted), dotted.rpartition(".")[2]
    if file.suffix != ".py":
        return None
    names = defined_names(file)
    if name not in names and own_file(folder, dotted) is not None:
        raise UsageError(f"{file} defines no {name!r}{did_you_mean(name, names)}")
    return names.get(name)


def load_object(folder: Path, dotted: str) -> Callable[..., Any]:
    """Import the module of ``dotted`` and return the object in it.

    Raises:
        UsageError: there is no such module or name.
    """
    file = own_file(folder, dotted)
    module_name, _, name = dotted.rpartition(".")
    if file is None:
        module_file(folder, dotted)  # says what is missing, and where it was looked for
        module = importlib.import_module(module_name)
    else:
        module = _SPEC_MODULES.load(file, folder)
    if not hasattr(module, name):
        raise UsageError(f"{file or module_name} defines no {name!r}{did_you_mean(name, vars(module))}")
    loaded: Callable[..., Any] = getattr(module, name)
    return loaded


class _SpecModules:
    """Runs the modules that lie beside specs, one at a time: ``sys.path`` and ``sys.modules`` belong to the whole process.

    A module does not stay in ``sys.modules``: two pipelines may both have a ``functions.py``, and what Spark ships to its Python workers
    is then pickled by value, since no worker could import it by name.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._run_once = lru_cache(maxsize=64)(self._run)

    def load(self, file: Path, folder: Path) -> ModuleType:
        """Return the module of a file, run once for each content of it, with ``folder`` first on the import path."""
        return self._run_once(file.resolve(), folder.resolve(), sha256(file.read_bytes()).hexdigest())

    def _run(self, file: Path, folder: Path, _digest: str) -> ModuleType:
        place = sha256(str(file).encode()).hexdigest()[:12]
        spec = importlib.util.spec_from_file_location(f"_tidemill_{place}_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise UsageError(f"{file} cannot be imported; it must be a Python file")
        module = importlib.util.module_from_spec(spec)
        with self._lock, _import_from(folder):
            sys.modules[module.__name__] = module  # dataclasses look their module up there while it runs
            with contain_exit(f"{file}, while it was imported,"):
                spec.loader.exec_module(module)
        return module


@contextmanager
def _import_from(folder: Path) -> Iterator[None]:
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and "site-packages" not in Path(file).parts and Path(file).resolve().is_relative_to(folder):
                del sys.modules[name]


_SPEC_MODULES = _SpecModules()
