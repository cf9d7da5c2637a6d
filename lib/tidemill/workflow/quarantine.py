"""What is in quarantine, by rule, and its way back into the tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidemill.lake import Lake
from tidemill.lake.ledger import query
from tidemill.lake.names import batch_app
from tidemill.lake.recorded import refuse_faults
from tidemill.spec import Spec


@dataclass(frozen=True)
class Refused:
    """The records of one table that break one rule: how many, since when, and one of them with its place."""

    table: str
    rule: str
    records: int
    since: object
    sample: str
    place: str

    def row(self) -> dict[str, object]:
        """Return it as a row for people and for JSON."""
        return vars(self)


def quarantined(spec: Spec, lake: Lake) -> list[Refused]:
    """Return what is in quarantine of the spec's sources and tables, by rule, the most first; starts no Spark.

    A record that breaks several rules counts for each. What a killed batch has left behind does not count: its main table never
    took it.

    Raises:
        LakeError: a quarantine has lost records.
    """
    pipeline = spec.pipeline
    found: list[Refused] = []
    tables = [table for table, _ in _tables(pipeline.sources, pipeline.tables)]
    refuse_faults(lake, [f"{table}_quarantine" for table in tables])
    for table in tables:
        if lake.exists(f"{table}_quarantine"):
            is_bronze = table.startswith("bronze.")
            last = lake.txn_version(table, batch_app(table.partition(".")[2])) if is_bronze else None
            committed = f"WHERE _batch_id <= {last or 0}" if is_bronze else ""
            found += _by_rule(lake, table, committed)
    return found


def nodes_in_quarantine(spec: Spec, lake: Lake) -> list[str]:
    """Return the nodes whose tables have records in quarantine, in the order of the spec."""
    tables = {refused.table for refused in quarantined(spec, lake)}
    return [node for table, node in _tables(spec.pipeline.sources, spec.pipeline.tables) if table in tables]


def _tables(sources: Iterable[str], tables: Iterable[str]) -> list[tuple[str, str]]:
    return [(f"bronze.{name}", f"ingest.{name}") for name in sources] + [(f"silver.{name}", f"prepare.{name}") for name in tables]


def _by_rule(lake: Lake, table: str, where: str) -> list[Refused]:
    opened = lake.open(f"{table}_quarantine")
    columns = {part.name for part in opened.schema().fields}
    at = "_ingested_at" if "_ingested_at" in columns else "quarantined_at"
    line = "coalesce(':' || CAST(_source_line AS VARCHAR), '')" if "_source_line" in columns else "''"
    place = f"_source_file || {line}" if "_source_file" in columns else "''"
    rows = query(
        opened,
        f"SELECT rule, count(*) AS records, min(since) AS since, first_value(raw ORDER BY place, raw) AS sample, min(place) AS place "
        f"FROM (SELECT unnest(rules) AS rule, {at} AS since, raw, {place} AS place FROM rows {where}) GROUP BY rule "
        "ORDER BY records DESC, rule",
    ).to_pylist()
    return [Refused(table, row["rule"], row["records"], row["since"], str(row["sample"]), row["place"]) for row in rows]
