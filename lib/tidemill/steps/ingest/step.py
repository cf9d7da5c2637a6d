"""The step ingest: raw sources → ``bronze.<source>``, every record accounted for, each file and each position exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from tidemill.errors import SourceError, UsageError
from tidemill.lake import Lake
from tidemill.runtime.locks import find_holder, hold_lock
from tidemill.sources.schema.policies import SchemaRefused
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.spec.models.source_kinds import FileKind, QueryKind
from tidemill.steps.ingest.batch import Batch, commit
from tidemill.steps.ingest.extract import read_extract
from tidemill.steps.ingest.files import Unread, read_files
from tidemill.steps.ingest.history import Past, past
from tidemill.steps.ingest.schema import record_changes
from tidemill.steps.result import StepContext, StepResult


def ingest(context: StepContext) -> StepResult:
    """Load one source into ``bronze.<source>`` and ``bronze.<source>_quarantine``.

    Grain: one row per physical record. Columns: the source's own, ``_source_file``, ``_source_row_hash``, ``_ingested_at``,
    ``_batch_id`` (0 for a full load), ``_rescued``. ``load: incremental`` takes each file, and what lies behind each position, once:
    the commit of the main table is the one point at which a batch counts; what was written before it is replaced by a repeat, what
    comes after it is rebuilt from it. Processes that ingest the same source take turns.

    Raises:
        UsageError: an option or the schema is wrong.
        SourceError: there is no file, none can be read, or one cannot and ``on_bad_file: fail`` says that this is not to be; or a
            schema policy says ``fail``.
        StepError: records were lost on the way.
    """
    source = context.spec.pipeline.sources[context.item]
    table = f"bronze.{context.item}"
    try:
        with _alone(context.lake, table) as waited, ExitStack() as stack:
            before = past(context)
            batch = _batch(stack, context, source, before)
            if isinstance(batch, Unread):
                return _unchanged(context, table, (*waited, *before.notes, *batch.notes))
            result = commit(context, batch)
            return StepResult(
                result.outputs, result.rows_in, result.rows_out, result.rows_quarantined, notes=(*waited, *before.notes, *result.notes)
            )
    except SchemaRefused as error:
        record_changes(context, error.changes, -1)
        raise SourceError(f"sources.{context.item}: {error}; {table} stays as it was") from error
    except (SourceError, UsageError) as error:
        raise type(error)(f"sources.{context.item}: {error}") from error


def _batch(stack: ExitStack, context: StepContext, source: Source, before: Past) -> Batch | Unread:
    kind = SOURCE_KINDS.get(source.format, context.spec.folder)
    first = before.lost_from if context.replay is None else before.first_batch(context.replay)
    if isinstance(kind, FileKind):
        return read_files(stack, context, source, kind, before, first)
    assert isinstance(kind, QueryKind)  # a kind derives from one of the two
    return read_extract(stack, context, source, kind, before, first)


@contextmanager
def _alone(lake: Lake, table: str) -> Iterator[tuple[str, ...]]:
    """Hold the source against other processes: who comes second sees what the first has committed. Yields remarks."""
    name = f"ingest.{table}"
    with hold_lock(lake.root, name, wait=False) as is_free:
        if is_free:
            yield ()
            return
    by = find_holder(lake.root, name)
    with hold_lock(lake.root, name):
        yield (f"waited for {by or 'another process'}, which was writing {table}",)


def _unchanged(context: StepContext, table: str, notes: tuple[str, ...]) -> StepResult:
    """Return the result of a run that found nothing new to load."""
    version = context.lake.version(table)
    outputs: Mapping[str, int] = {} if version is None else {table: version}
    return StepResult(outputs, rows_in=0, rows_out=0, notes=notes)
