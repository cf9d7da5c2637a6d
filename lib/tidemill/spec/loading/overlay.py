"""Overlays (``--env``) and settings (``--set``) of a spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tidemill.errors import Fault, did_you_mean
from tidemill.spec.loading.document import MAX_DEPTH, Key, Node, parse_scalar, read_document

SET = "--set"
_ENV_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def merge_nodes(base: Node, top: Node) -> Node:
    """Return ``base`` with ``top`` applied: mappings are merged key by key, anything else is replaced."""
    if not (isinstance(base.value, dict) and isinstance(top.value, dict)):
        return top
    entries = dict(base.value)
    for key, node in top.value.items():
        entries[key] = merge_nodes(entries[key], node) if key in entries else node
    return replace(base, value=entries)


def overlay_files(folder: Path, root: Path, env: str) -> tuple[list[Path], list[Fault]]:
    """Return the overlay files called ``env`` in order of application: the project's at ``root``, then the one beside the spec.

    The file beside the spec is more specific than the shared one in ``conf/env``, so it takes precedence.
    """
    if not _ENV_NAME.fullmatch(env):
        return [], [Fault("--env", None, env, "not the name of an environment; letters, digits, '_', '-' and '.' make one")]
    beside, shared = folder / "env", [folder.parent / "env", root / "conf" / "env"]
    candidates = [next((place / f"{env}.yml" for place in shared if (place / f"{env}.yml").is_file()), None), beside / f"{env}.yml"]
    overlays: dict[Path, Path] = {path.resolve(): path for path in candidates if path is not None and path.is_file()}
    if overlays:
        return list(overlays.values()), []
    known = sorted({path.stem for place in (beside, *shared) for path in place.glob("*.yml")})
    has = f"there are {', '.join(known)}" if known else "there are no overlays yet"
    message = f"no such environment{did_you_mean(env, known)}; expected {beside / env}.yml or conf/env/{env}.yml ({has})"
    return [], [Fault("--env", None, env, message)]


def apply_settings(root: Node, values: Mapping[str, str]) -> tuple[Node, list[Fault]]:
    """Return ``root`` with each ``a.b=c`` of ``values`` applied; ``vars.NAME`` is skipped: it sets a variable."""
    faults: list[Fault] = []
    for key, text in values.items():
        parts = key.split(".")
        if parts[0] == "vars" and len(parts) == 2:
            continue
        if len(parts) > MAX_DEPTH:
            faults.append(Fault(SET, None, f"{key[:40]}…", f"more than {MAX_DEPTH} levels deep"))
            continue
        if not all(parts):
            faults.append(Fault(SET, None, key, "not a key; write --set training.folds=5"))
            continue
        path = _find_path(root, parts)
        if path is None:
            faults.append(Fault(SET, None, key, "no such item in the list; items count from 0"))
            continue
        node, value_faults = _parse_setting(text, key)
        faults += value_faults
        root = root.put(path, node)
    return root, faults


def _find_path(root: Node, parts: list[str]) -> tuple[Key, ...] | None:
    """Return the parts as keys and list positions, or None if a list has no such item."""
    path: list[Key] = []
    for part in parts:
        above = root.at(*path)
        is_list = above is not None and isinstance(above.value, list)
        if is_list and (not part.isdecimal() or int(part) >= len(above.items if above else [])):
            return None
        path.append(int(part) if is_list else part)
    return tuple(path)


def _parse_setting(text: str, key: str) -> tuple[Node, list[Fault]]:
    """Parse the value of a setting: a YAML scalar, or a list, block or quoted text if it starts like one."""
    if not text.startswith(("[", "{", '"', "'")):
        return Node(parse_scalar(text) if text else "", SET, None, text=text, origin=text), []
    node, faults = read_document(text.encode(), SET)
    if node is None or faults:
        return Node(text, SET, None, text=text, is_open=True), [Fault(SET, None, key, fault.message) for fault in faults]
    return _without_lines(node), []


def _without_lines(node: Node) -> Node:
    if isinstance(node.value, dict):
        return replace(node, line=None, value={key: _without_lines(child) for key, child in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, line=None, value=[_without_lines(child) for child in node.value])
    return replace(node, line=None)
