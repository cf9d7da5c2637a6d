"""Loads a spec: file, overlays, settings, variables, models and checks; all faults are reported together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidemill.errors import Fault, SpecError, UsageError
from tidemill.extensions import Registry, search_beside
from tidemill.families import ENGINES, FAMILIES
from tidemill.runtime.user_code import load_object, module_file, own_file, read_own_imports
from tidemill.spec.loading.document import MAX_FAULTS, Node, read_document, read_small
from tidemill.spec.loading.grammar import reserved_option_faults
from tidemill.spec.loading.overlay import apply_settings, merge_nodes, overlay_files
from tidemill.spec.loading.paths import find_project_root, resolve_pipeline
from tidemill.spec.loading.variables import UnresolvedVariable, Variables, substitute
from tidemill.spec.models import FEATURE_GROUPS, CustomFamily, Features, Pipeline, Table
from tidemill.spec.sql import unsafe_sql_faults
from tidemill.spec.validation.checks import check_faults
from tidemill.spec.validation.fields import validate
from tidemill.spec.validation.references import DeclaredNames, reference_faults, schema_text, sql_inputs, sql_text
from tidemill.tasks import METRICS, TASKS

FILE_NAME = "pipeline.yml"


@dataclass(frozen=True)
class Spec:
    """A validated spec and its location: SQL, schema files and Python are looked up in ``folder``; all its paths are absolute."""

    pipeline: Pipeline
    file: Path
    folder: Path
    tree: Node | None = field(default=None, repr=False, compare=False)

    def locate_faults(self, error: SpecError) -> SpecError:
        """Return ``error`` with file and line added to each fault without a line, such as those of later steps."""
        return SpecError([fault if fault.line is not None else self._add_place(fault) for fault in error.faults])

    def _add_place(self, fault: Fault) -> Fault:
        if self.tree is None:
            return replace(fault, file=str(self.file))
        file, line = self.tree.nearest(fault.key).fault_place()
        return replace(fault, file=file, line=line)

    @property
    def root(self) -> Path:
        """The root of the project, below which relative paths lie."""
        return find_project_root(self.folder)

    def sql_text(self, value: str) -> str:
        """Return the text of the SQL file ``value``, or ``value`` itself if it contains white space."""
        return sql_text(self.folder, value)

    def schema_text(self, value: str) -> str:
        """Return the text of the schema file ``value`` (``.ddl`` or ``.json``), or ``value`` itself: it is DDL then."""
        return schema_text(self.folder, value)

    def function(self, dotted: str) -> Callable[..., Any]:
        """Return the object ``functions.clean_flights`` of a file beside the spec, or of an installed module."""
        return load_object(self.folder, dotted)

    def source_code(self, dotted: str) -> str:
        """Return the text of the file that defines ``dotted``."""
        return module_file(self.folder, dotted).read_text(encoding="utf-8", errors="replace")

    def own_imports(self, dotted: str) -> dict[str, str]:
        """Return the text of each module beside the spec that the file of ``dotted`` imports, by its name."""
        file = own_file(self.folder, dotted)
        return read_own_imports(self.folder, file) if file else {}

    def code(self, dotted: str) -> list[str]:
        """Return the text of the file that defines ``dotted``, and of what it imports from beside the spec."""
        return [self.source_code(dotted), *self.own_imports(dotted).values()]

    def extension_code(self, registry: Registry[Any], *names: str) -> list[str]:
        """Return the source of each file of the named extensions that are not built in, and the versions of the packages of some."""
        paths = [path for name in names if (path := registry.dotted_path(name))]
        packages = [package for name in names if (package := registry.version(name))]
        return [*dict.fromkeys(packages), *(text for path in dict.fromkeys(paths) for text in self.code(path))]

    def training_code(self) -> list[str]:
        """Return the source of each file of user code that the train step uses."""
        features, training = self.pipeline.features, self.pipeline.training
        groups = [group.name for group in features.groups] if isinstance(features, Features) else []
        stages = features.python_names if isinstance(features, Features) else []
        estimators = [family.python for family in self.pipeline.families.values() if isinstance(family, CustomFamily)]
        families = [name for name, family in self.pipeline.families.items() if not isinstance(family, CustomFamily)]
        return [
            *(text for python in (*stages, *estimators) for text in self.code(python)),
            *self.extension_code(FEATURE_GROUPS, *(name for name in groups if "." not in name)),
            *self.extension_code(FAMILIES, *families),
            *self.task_code(),
            *self.extension_code(ENGINES, training.engine),
        ]

    def task_declaration(self) -> list[str]:
        """Return what a custom task declares, with what it takes from its base; nothing for a built-in one."""
        return [self.pipeline.task.describe()] if TASKS.dotted_path(self.pipeline.training.task) else []

    def task_code(self) -> list[str]:
        """Return the source of each file of the task and its metrics that are not built in."""
        metrics = (self.pipeline.selection_metric, *self.pipeline.task.metric_names())
        steps = (text for path in self.pipeline.task.custom_paths() for text in self.code(path))
        own = [*self.task_declaration(), *self.extension_code(TASKS, self.pipeline.training.task), *steps]
        return [*own, *self.extension_code(METRICS, *metrics)]

    def sql_inputs(self, value: str) -> list[str]:
        """Return the tables (``silver.flights``) that the SQL of ``value`` reads, sorted."""
        return sql_inputs(self.folder, value)

    def table_inputs(self, name: str) -> list[str]:
        """Return the tables that ``silver.<name>`` reads: sorted for SQL, in the order of its parameters for Python; then its rules'."""
        table: Table = self.pipeline.tables[name]
        if table.sql is not None:
            return list(dict.fromkeys((*self.sql_inputs(table.sql), *table.reads)))
        declared = DeclaredNames(self.folder, self.pipeline.pipeline, tuple(self.pipeline.sources), tuple(self.pipeline.tables))
        return list(dict.fromkeys((*declared.python_inputs(str(table.python), table.inputs, name), *table.reads)))

    def dataset_inputs(self) -> list[str]:
        """Return the tables that the dataset reads, sorted."""
        dataset = self.pipeline.dataset
        rows = [dataset.from_] if dataset.from_ else self.sql_inputs(str(dataset.sql))
        return sorted({*rows, *dataset.joined_tables})

    def scoring_inputs(self) -> list[str]:
        """Return the tables that scoring reads, sorted; the dataset itself by default."""
        scoring, dataset = self.pipeline.scoring, self.pipeline.dataset_table
        if scoring.sql is None and scoring.from_ in (None, dataset):
            return [dataset]
        rows = [scoring.from_] if scoring.from_ is not None else self.sql_inputs(str(scoring.sql))
        return sorted({*rows, *self.pipeline.dataset.joined_tables})


def load_spec(
    path: str | Path, *, env: str | None = None, set_values: Mapping[str, str] | None = None, environ: Mapping[str, str] = os.environ
) -> Spec:
    """Read and check a spec.

    Args:
        path: the file, or a folder that holds ``pipeline.yml``.
        env: the overlay to apply, ``env/<env>.yml`` beside the spec and ``conf/env/<env>.yml`` of the project.
        set_values: ``a.b`` → value, which overrides any key; ``vars.NAME`` gives a variable.
        environ: the environment that variables are looked up in.

    Raises:
        SpecError: the spec is invalid; it carries every fault.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    with search_beside(file.parent):
        return _load_file(file, env, set_values or {}, environ)


def _load_file(file: Path, env: str | None, settings: Mapping[str, str], environ: Mapping[str, str]) -> Spec:
    root, faults = _read_tree(file, env)
    if root is None:
        raise SpecError(faults)
    variables, more = _collect_variables(root, settings, environ)
    faults += more
    if variables.is_unbounded:
        raise SpecError(_sort_faults(faults, str(file)))
    root, more = apply_settings(root, settings)
    faults += more
    root, more = substitute(root, variables)
    faults += more
    with search_beside(file.parent):
        pipeline, more = validate(root)
        faults += more
        rules = (check_faults, reference_faults, unsafe_sql_faults)
        for later_faults in (reserved_option_faults(root), *(rule(root, file.parent) for rule in rules)):
            reported_keys = {fault.key for fault in faults}
            faults += [fault for fault in later_faults if fault.key not in reported_keys]
    if faults or pipeline is None:
        raise SpecError(_sort_faults(faults, str(file)))
    return Spec(resolve_pipeline(pipeline, find_project_root(file.parent)), file, file.parent, root)


def _read_tree(file: Path, env: str | None) -> tuple[Node | None, list[Fault]]:
    """Read the file and apply its overlays."""
    root, faults = _read(file)
    if env is not None:
        overlays, more = overlay_files(file.parent, find_project_root(file.parent), env)
        faults += more
        for overlay in overlays:
            top, more = _read(overlay)
            faults += more
            if root is not None and top is not None:
                root = merge_nodes(root, top)
    return root, faults


def _read(file: Path) -> tuple[Node | None, list[Fault]]:
    try:
        data = read_small(file)
    except UsageError as error:
        return None, [Fault(str(file), None, "", str(error))]
    except OSError as error:
        near = ", ".join(sorted(str(path) for path in file.parent.glob("*.yml"))[:5]) if file.parent.is_dir() else ""
        hint = f"; there is {near}" if near else "; give the path of a pipeline.yml"
        return None, [Fault(str(file), None, "", f"cannot be read: {error.strerror or error}{hint}")]
    root, faults = read_document(data, str(file))
    if root is None and not faults:
        faults = [Fault(str(file), None, "", "empty; a spec starts with `pipeline: <name>`")]
    if root is not None and not isinstance(root.value, dict):
        return None, [*faults, Fault(str(file), root.line, "", "expected keys such as `pipeline:` and `sources:`, found something else")]
    return root, faults


def _collect_variables(root: Node, settings: Mapping[str, str], environ: Mapping[str, str]) -> tuple[Variables, list[Fault]]:
    """Collect the variables; the models refuse a declared one that is no plain value."""
    block = root.at("vars")
    declared = {name: node.text for name, node in (block.mapping if block else {}).items() if node.text is not None}
    set_values = {key.removeprefix("vars."): text for key, text in settings.items() if key.startswith("vars.")}
    variables = Variables(set_values, environ, declared)
    faults = []
    for name, node in (block.mapping if block else {}).items():
        try:
            variables.get(name)
        except UnresolvedVariable as error:
            faults.append(Fault(*node.fault_place(), f"vars.{name}", str(error)))
            if variables.is_unbounded or len(faults) >= MAX_FAULTS:
                break
    return variables, faults


def _sort_faults(faults: list[Fault], file: str) -> list[Fault]:
    """Sort faults: the spec from top to bottom, then overlays, then settings."""
    return sorted(dict.fromkeys(faults), key=lambda fault: (fault.file != file, fault.file, fault.line or 0))
