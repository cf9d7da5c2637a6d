"""Validates nodes as models, and turns pydantic's errors into faults with file, line and remedy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError

from tidemill.errors import Fault, did_you_mean
from tidemill.spec.loading.document import MAX_FAULTS, Key, Node, dotted_key
from tidemill.spec.loading.grammar import blocks_at, homes_of, keys_of
from tidemill.spec.loading.overlay import SET
from tidemill.spec.models import pipeline as models

Error = Mapping[str, Any]
Path = tuple[Key, ...]

_TAGS = frozenset({"log", "int", "float", "choices", "fixed", "custom", "space"})  # pydantic puts them into locations; some are keys too
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_PATTERNS = {
    "Name": "a name (a letter or _, then letters, digits and _)",
    "DottedName": "a dotted Python name such as functions.clean",
    "TableName": "a table of the lake such as silver.flights",
    "Duration": "a duration such as 30m, 2h or 1d",
    "Reference": "a column of a table such as silver.airports.faa",
}


def validate(root: Node) -> tuple[models.Pipeline | None, list[Fault]]:
    """Validate the whole spec; the pipeline is None where there are faults.

    A value from a variable or ``--set`` that looks like a number is read as text where text is expected.
    """
    errors: list[Error] = []
    for _ in range(2):
        try:
            return models.Pipeline.model_validate(root.plain(), by_alias=True, by_name=False), []
        except ValidationError as error:
            errors = [dict(path_errors) for path_errors in error.errors(include_url=False)]
        retyped = _as_text(root, errors)
        if retyped is root:
            break
        root = retyped
    return None, _faults(root, errors)


def _as_text(root: Node, errors: Iterable[Error]) -> Node:
    not_finite = {_locate(root, error)[0] for error in errors if error["type"] == "finite_number"}
    for error in errors:
        path, _ = _locate(root, error)
        if path in not_finite:
            continue
        node = root.at(*path)
        if error["type"] == "string_type" and node is not None and node.origin is not None and not isinstance(node.value, str):
            root = root.put(path, replace(node, value=node.text))
    return root


def _faults(root: Node, errors: Iterable[Error]) -> list[Fault]:
    grouped: dict[Path, list[Error]] = defaultdict(list)
    for error in errors:
        if len(grouped) >= MAX_FAULTS:
            break
        path, missing = _locate(root, error)
        grouped[(*path, missing) if missing else path].append({**error, "missing": missing})
    unknown = {path for path, path_errors in grouped.items() if any(error["type"] == "extra_forbidden" for error in path_errors)}
    faults = []
    for path, path_errors in grouped.items():
        node = root.at(*path)
        if node is not None and (node.is_open or _is_other_choice(path, node, grouped)):
            continue
        if any(error["missing"] for error in path_errors):
            if not _is_misspelled(path, unknown):
                faults.append(_missing_fault(root, path))
        elif node is not None:
            faults.append(Fault(*node.fault_place(), dotted_key(path), _message(path, node, path_errors)))
    return faults


def _is_other_choice(path: Path, node: Node, grouped: Mapping[Path, list[Error]]) -> bool:
    """Return True if the error is of an alternative (``auto``, a number, a list of blocks, a block) that was not written.

    The written block or list has its own faults.
    """
    kinds = {error["type"] for error in grouped[path]}
    is_other = kinds <= {"literal_error", "int_type", "list_type"} if node.mapping else kinds <= {"model_type", "model_attributes_type"}
    return is_other and bool(node.value) and any(other[: len(path)] == path for other in grouped if other != path)


def _locate(root: Node, error: Error) -> tuple[Path, str | None]:
    """Return the path of an error without pydantic's own tags, and the key that is missing there."""
    location = error["loc"]
    missing = str(location[-1]) if error["type"] == "missing" else None
    path: list[Key] = []
    node = root
    for position, part in enumerate(location[:-1] if missing else location):
        child = node.child(part)
        following = location[position + 1] if position + 1 < len(location) else None
        is_tag = part in _TAGS and isinstance(following, str) and node.child(following) is not None
        if child is not None and not is_tag:
            path.append(part)
            node = child
    return tuple(path), missing


def _missing_fault(root: Node, path: Path) -> Fault:
    above = root.at(*path[:-1]) or root
    place = "in this block" if len(path) > 1 else "at the top level"
    return Fault(*above.fault_place(), dotted_key(path), f"missing; `{path[-1]}:` is required {place}")


def _is_misspelled(path: Path, unknown: Iterable[Path]) -> bool:
    """Return True if an unknown key beside the missing one is a misspelling of it."""
    return any(other[:-1] == path[:-1] and did_you_mean(str(other[-1]), [str(path[-1])]) for other in unknown)


def _message(path: Path, node: Node, errors: list[Error]) -> str:
    kinds = {error["type"]: error for error in errors}
    if "extra_forbidden" in kinds:
        return _unknown_key(path)
    if "value_error" in kinds:
        return str(kinds["value_error"]["ctx"]["error"])
    strict = [error for error in errors if error["type"] in _BOUNDS or error["type"].startswith(("too_", "string_pattern"))]
    phrases: list[str] = []
    literals: list[str] = []
    for error in strict or errors:
        if error["type"] == "literal_error":
            literals += _literals(error)
        phrase = _expected(error)
        if phrase not in phrases:
            phrases.append(phrase)
    hint = did_you_mean(node.value, literals) if isinstance(node.value, str) and node.origin is None else ""
    if "[key]" in errors[0]["loc"]:
        return f"expected {' or '.join(phrases)}, found {path[-1]!r}"
    if "finite_number" in kinds and len(phrases) == 4:  # other kinds of a scalar are no better: it is a number
        phrases = [_TYPES["finite_number"]]
    if len(phrases) == 4:  # the four kinds of a scalar
        phrases = ["a plain value (text, a number, true or false)"]
    if phrases == ["text"] and _is_duration(path):
        return f"expected {_PATTERNS['Duration']}, found {_describe(node)}"
    if phrases == ["text"] and node.text and not isinstance(node.value, dict | list):
        hint = f'; write it in quotes: "{node.text}"' if node.origin is None else ""
    return f"expected {' or '.join(phrases)}, found {_describe(node)}{hint}"


def _is_duration(path: Path) -> bool:
    """Return True if the key takes a duration."""
    fields = [model.model_fields.get(str(path[-1])) for model in blocks_at(path[:-1])]
    declared = [each for field in fields if field for each in (*field.metadata, *get_args(field.annotation))]
    return any(each == models.Duration or getattr(each, "pattern", None) == _pattern("Duration") for each in declared)


def _unknown_key(path: Path) -> str:
    key = str(path[-1])
    known = [name for model in blocks_at(path[:-1]) for name in keys_of(model)]
    if key in known:
        return f"only one of {', '.join(known)} can be given here"
    homes = homes_of(key)
    if len(homes) == 1 and not get_close_matches(key, known, cutoff=0.75):
        return f"unknown key here; it belongs {f'under `{homes[0]}:`' if homes[0] else 'at the top level'}"
    hint = did_you_mean(key, known)
    if hint:
        return f"unknown key{hint}"
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"


def _expected(error: Error) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "literal_error":
        literals = _literals(error)
        return repr(literals[0]) if len(literals) == 1 else f"one of {', '.join(map(repr, literals))}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"a number of {words} {context[key]:g}"
    if kind in ("too_short", "too_long"):
        words, count = ("at least", context["min_length"]) if kind == "too_short" else ("at most", context["max_length"])
        return f"{words} {count} item{'' if count == 1 else 's'}"
    if kind == "string_pattern_mismatch":
        return next((_PATTERNS[name] for name in _PATTERNS if context["pattern"] == _pattern(name)), f"text like {context['pattern']}")
    return str(error["msg"])


def _literals(error: Error) -> list[str]:
    return [word.strip().strip("'") for word in str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")]


def _pattern(name: str) -> str:
    return str(getattr(models, name).__metadata__[0].pattern)


def _describe(node: Node) -> str:
    """Describe a value; a value from a variable is not shown, since it may be a secret."""
    if node.origin is not None and node.file != SET:
        return f"the value of {node.origin}"
    if isinstance(node.value, dict):
        return "a block of keys"
    if isinstance(node.value, list):
        return f"a list of {len(node.value)}"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, str):
        return repr(node.value if len(node.value) <= 40 else f"{node.value[:40]}…")
    return str(node.text)
