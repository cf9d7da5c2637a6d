"""What SQL may do without being trusted: read tables of the lake with Spark's own functions.

The parser of sqlglot decides before Spark starts; Spark's own parser has the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from tidemill.errors import UsageError
from tidemill.lake.sql import parse
from tidemill.quoting import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


UNSAFE = {
    "reflect": "calls Java methods",
    "java_method": "calls Java methods",
    "try_reflect": "calls Java methods",
    "from_protobuf": "reads a file that it names",
    "to_protobuf": "reads a file that it names",
    "python_worker_logs": "reads the logs of other queries",
    "table_changes": "reads a table that no one sees",
    "table_changes_by_path": "reads a path",
    "read_files": "reads paths",
}
"""Why the best known of the functions that are not allowed are not."""

_NAMES = """
    abs acos acosh add_months aes_decrypt aes_encrypt aggregate and any any_value approx_count_distinct approx_percentile approx_top_k
    approx_top_k_accumulate approx_top_k_combine approx_top_k_estimate array array_agg array_append array_compact array_contains
    array_distinct array_except array_insert array_intersect array_join array_max array_min array_position array_prepend array_remove
    array_repeat array_size array_sort array_union arrays_overlap arrays_zip ascii asin asinh assert_true atan atan2 atanh avg base64
    between bigint bin binary bit_and bit_count bit_get bit_length bit_or bit_xor bitmap_and_agg bitmap_bit_position
    bitmap_bucket_number bitmap_construct_agg bitmap_count bitmap_or_agg bool_and bool_or boolean bround btrim cardinality case cast
    cbrt ceil ceiling char char_length character_length chr coalesce collate collation collations collect_list collect_set concat
    concat_ws contains conv convert_timezone corr cos cosh cot count count_if count_min_sketch covar_pop covar_samp crc32 csc cube
    cume_dist curdate current_catalog current_database current_date current_path current_schema current_time current_timestamp
    current_timezone current_user date date_add date_diff date_format date_from_unix_date date_part date_sub date_trunc dateadd
    datediff datepart day dayname dayofmonth dayofweek dayofyear decimal decode degrees dense_rank div double e element_at elt encode
    endswith equal_null every exists exp explode explode_outer expm1 extract factorial filter find_in_set first first_value flatten
    float floor forall format_number format_string from_avro from_csv from_json from_unixtime from_utc_timestamp from_xml get
    get_json_object getbit greatest grouping grouping_id hash hex histogram_numeric hll_sketch_agg hll_sketch_estimate hll_union
    hll_union_agg hour hypot if ifnull ilike in initcap inline inline_outer input_file_block_length input_file_block_start
    input_file_name instr int is_valid_utf8 is_valid_variant is_variant_null isnan isnotnull isnull json_array_length json_object_keys
    json_tuple kll_merge_agg_bigint kll_merge_agg_double kll_merge_agg_float kll_sketch_agg_bigint kll_sketch_agg_double
    kll_sketch_agg_float kll_sketch_get_n_bigint kll_sketch_get_n_double kll_sketch_get_n_float kll_sketch_get_quantile_bigint
    kll_sketch_get_quantile_double kll_sketch_get_quantile_float kll_sketch_get_rank_bigint kll_sketch_get_rank_double
    kll_sketch_get_rank_float kll_sketch_merge_bigint kll_sketch_merge_double kll_sketch_merge_float kll_sketch_to_string_bigint
    kll_sketch_to_string_double kll_sketch_to_string_float kurtosis lag last last_day last_value lcase lead least left len length
    levenshtein like listagg ln localtimestamp locate log log10 log1p log2 lower lpad ltrim luhn_check make_date make_dt_interval
    make_interval make_time make_timestamp make_timestamp_ltz make_timestamp_ntz make_valid_utf8 make_ym_interval map map_concat
    map_contains_key map_entries map_filter map_from_arrays map_from_entries map_keys map_values map_zip_with mask max max_by md5 mean
    measure median min min_by minute mod mode monotonically_increasing_id month monthname months_between named_struct nanvl negative
    next_day not now nth_value ntile nullif nullifzero nvl nvl2 octet_length or overlay parse_json parse_url percent_rank percentile
    percentile_approx percentile_cont percentile_disc pi pmod posexplode posexplode_outer position positive pow power printf quarter
    quote radians raise_error rand randn random randstr range rank reduce regexp regexp_count regexp_extract regexp_extract_all
    regexp_instr regexp_like regexp_replace regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx
    regr_sxy regr_syy repeat replace reverse right rint rlike rollup round row_number rpad rtrim schema_of_avro schema_of_csv
    schema_of_json schema_of_variant schema_of_variant_agg schema_of_xml sec second sentences sequence session_user session_window sha
    sha1 sha2 shiftleft shiftright shiftrightunsigned shuffle sign signum sin sinh size skewness slice smallint some sort_array
    soundex space spark_partition_id split split_part sql_keywords sqrt st_asbinary st_geogfromwkb st_geomfromwkb st_setsrid st_srid
    stack startswith std stddev stddev_pop stddev_samp str_to_map string string_agg struct substr substring substring_index sum tan
    tanh theta_difference theta_intersection theta_intersection_agg theta_sketch_agg theta_sketch_estimate theta_union theta_union_agg
    time time_bucket time_diff time_from_micros time_from_millis time_from_seconds time_to_micros time_to_millis time_to_seconds
    time_trunc timestamp timestamp_micros timestamp_millis timestamp_seconds timestampadd timestampdiff tinyint to_avro to_binary
    to_char to_csv to_date to_json to_number to_time to_timestamp to_timestamp_ltz to_timestamp_ntz to_unix_timestamp to_utc_timestamp
    to_varchar to_variant_object to_xml transform transform_keys transform_values translate trim trunc try_add try_aes_decrypt try_avg
    try_cast try_divide try_element_at try_make_interval try_make_timestamp try_make_timestamp_ltz try_make_timestamp_ntz try_mod
    try_multiply try_parse_json try_parse_url try_subtract try_sum try_to_binary try_to_date try_to_number try_to_time
    try_to_timestamp try_url_decode try_validate_utf8 try_variant_get tuple_difference_double tuple_difference_integer
    tuple_difference_theta_double tuple_difference_theta_integer tuple_intersection_agg_double tuple_intersection_agg_integer
    tuple_intersection_double tuple_intersection_integer tuple_intersection_theta_double tuple_intersection_theta_integer
    tuple_sketch_agg_double tuple_sketch_agg_integer tuple_sketch_estimate_double tuple_sketch_estimate_integer
    tuple_sketch_summary_double tuple_sketch_summary_integer tuple_sketch_theta_double tuple_sketch_theta_integer
    tuple_union_agg_double tuple_union_agg_integer tuple_union_double tuple_union_integer tuple_union_theta_double
    tuple_union_theta_integer typeof ucase unbase64 unhex uniform unix_date unix_micros unix_millis unix_seconds unix_timestamp upper
    url_decode url_encode user uuid validate_utf8 var_pop var_samp variance variant_explode variant_explode_outer variant_get
    vector_avg vector_cosine_similarity vector_inner_product vector_l2_distance vector_norm vector_normalize vector_sum version
    weekday weekofyear when width_bucket window window_time xpath xpath_boolean xpath_double xpath_float xpath_int xpath_long
    xpath_number xpath_short xpath_string xxhash64 year zeroifnull zip_with
"""
ALLOWED = frozenset(_NAMES.split())


_WRITES = (exp.DDL, exp.DML, exp.Command, exp.Set, exp.Into)


@dataclass(frozen=True)
class Unsafe:
    """One part of a statement that needs trust: its line and column (from 1), its text, and why."""

    line: int
    column: int
    words: str
    reason: str

    def __str__(self) -> str:
        """Return the sentence for people, without the place."""
        return f"`{self.words}` {self.reason}"


def function_reason(name: str) -> str | None:
    """Return why SQL may not call the function, None where it may."""
    if name.lower() in ALLOWED:
        return None
    return UNSAFE.get(name.lower(), "is none of Spark's own functions that only compute")


def table_reason(parts: tuple[str, ...]) -> str | None:
    """Return why SQL may not read the table of these name parts, None where it may; one part alone is a name of the query's own."""
    if len(parts) == 1 or (len(parts) == 2 and parts[0].lower() in LAYERS):
        return None
    if "/" in parts[-1] or ":" in parts[-1]:
        return f"reads a path; SQL reads the lake's tables, such as {LAYERS[1]}.flights"
    return f"is no table of the lake; write <layer>.<name>, the layer one of {', '.join(LAYERS)}"


def find_unsafe_parts(sql: str) -> list[Unsafe]:
    """Return what in the query would run programs or foreign code, write, or read something else than the lake, in the order of the text.

    Raises:
        UsageError: the SQL does not parse, or is more than one statement.
    """
    tree, text, added = parse(sql)
    return sorted(_parts(tree, text, added), key=lambda part: (part.line, part.column))


def _parts(tree: exp.Expr, text: str, added: tuple[int, ...]) -> Iterator[Unsafe]:
    # The names in a hint are not executed and have no position.
    for node in tree.walk(prune=lambda part: isinstance(part, exp.Hint)):
        if isinstance(node, exp.QueryTransform):
            yield _locate(text, added, _first(node), "TRANSFORM … USING", "runs a program")
        elif isinstance(node, _WRITES):
            yield _locate(text, added, _first(node), node.key.upper(), "does more than read")
        elif isinstance(node, exp.Func) and "start" in node.meta:
            start, end = node.meta["start"], node.meta["end"] + 1
            name = node.name if isinstance(node, exp.Anonymous) else text[start:end].strip("`")
            if reason := function_reason(name):
                yield _locate(text, added, start, text[start:end].strip("`"), reason)
        elif isinstance(node, exp.Table) and not isinstance(node.this, exp.Func):
            names = [part for part in node.find_all(exp.Identifier) if part.find_ancestor(exp.Table) is node and part.arg_key != "alias"]
            parts = tuple(part.name for part in node.parts)
            if reason := table_reason(parts):
                start = min((part.meta["start"] for part in names if "start" in part.meta), default=0)
                yield _locate(text, added, start, ".".join(parts), reason)


def _first(node: exp.Expr) -> int:
    """Return where the first part of ``node`` whose place is known begins."""
    return min((each.meta["start"] for each in node.walk() if "start" in each.meta), default=0)


def _locate(text: str, added: tuple[int, ...], start: int, words: str, reason: str) -> Unsafe:
    begin = text.rfind("\n", 0, start) + 1
    shift = sum(begin <= place < start for place in added)
    return Unsafe(text.count("\n", 0, start) + 1, start - begin - shift + 1, words, reason)


_QUERY_WORDS = """
    Aggregate Distinct Except Filter Generate GlobalLimit Intersect Join LateralJoin LimitAll LocalLimit LocalRelation Offset OneRowRelation
    PipeOperator Pivot Project RelationTimeTravel RepartitionByExpression Sample Sort SubqueryAlias Union UnresolvedHaving UnresolvedHint
    UnresolvedInlineTable UnresolvedQualify UnresolvedRelation UnresolvedSubqueryColumnAliases UnresolvedTVFAliases
    UnresolvedTableValuedFunction UnresolvedWith Unpivot Window WithWindowDefinition
"""
_DESCRIPTION_WORDS = """
    CurrentNamespace$ DescribeColumn DescribeDeltaDetailCommand DescribeDeltaHistory DescribeFunction DescribeNamespace
    DescribeQueryCommand DescribeRelation DescribeRelationJsonCommand ExplainCommand ShowCatalogsCommand ShowColumns ShowCreateTable
    ShowCurrentNamespaceCommand ShowFunctions ShowNamespaces ShowNamespacesCommand ShowPartitions ShowTableProperties ShowTables
    ShowTablesExtended ShowViews UnresolvedFunctionName UnresolvedNamespace UnresolvedTable UnresolvedTableOrView
"""
_QUERY, _DESCRIPTION = frozenset(_QUERY_WORDS.split()), frozenset(_DESCRIPTION_WORDS.split())
_RELATIONS = {
    "UnresolvedRelation": "multipartIdentifier",
    "UnresolvedTable": "multipartIdentifier",
    "UnresolvedTableOrView": "multipartIdentifier",
}
_CALLS = {"UnresolvedFunction": "nameParts", "UnresolvedTableValuedFunction": "name", "UnresolvedGenerator": "name"}
_WORDS = {
    "ScriptTransformation": "TRANSFORM … USING runs a program",
    "UnresolvedPathBasedDeltaTable": "a path is named; SQL reads the lake's tables, such as silver.flights",
    "UnresolvedPathBasedTable": "a path is named; SQL reads the lake's tables, such as silver.flights",
    "PlanWithUnresolvedIdentifier": "IDENTIFIER(…) names a table or function that is known too late",
    "ExpressionWithUnresolvedIdentifier": "IDENTIFIER(…) names a table or function that is known too late",
}
_CATALYST = "org.apache.spark.sql.catalyst"
_BUILTIN = ((), ("builtin",), ("system", "builtin"))


@dataclass(frozen=True)
class Reading:
    """What a statement that only reads is: the root of its plan, the tables it names, and the pattern of SHOW TABLES and SHOW VIEWS."""

    kind: str
    tables: frozenset[tuple[str, ...]]
    pattern: str | None = None
    is_of_all: bool = False

    @property
    def is_description(self) -> bool:
        """True for SHOW, DESCRIBE and EXPLAIN."""
        return self.kind in _DESCRIPTION


def parse_reading(spark: SparkSession, sql: str, paths: Collection[str] = ()) -> Reading | None:
    """Return what the statement reads, as Spark parses it; None where the session does not show its parser (Spark Connect).

    ``paths`` are the Delta tables that it may name by their place.

    Raises:
        UsageError: it would do more than read tables of the lake with Spark's own functions.
        ParseException: Spark cannot parse it.
    """
    session = getattr(spark, "_jsparkSession", None)
    if session is None:
        return None
    root = session.sessionState().sqlParser().parsePlan(sql)
    tables: set[tuple[str, ...]] = set()
    nodes = _Nodes(spark)
    for short, node, is_plan in nodes.walk(root):
        if short in _RELATIONS:
            parts = nodes.texts(getattr(node, _RELATIONS[short])())
            is_placed = len(parts) == 2 and parts[0] == "delta" and parts[1] in paths
            if (reason := table_reason(parts)) and not is_placed:
                raise UsageError(f"{_place(node)}`{'.'.join(parts)}` {reason}")
            if short == "UnresolvedRelation" and not node.options().isEmpty():
                raise UsageError(f"{_place(node)}`{'.'.join(parts)}` is given options; SQL reads the lake's tables as they are")
            tables.add(parts)
        elif short in _CALLS:
            _refuse_call(node, nodes.texts(getattr(node, _CALLS[short])()))
        is_known = not is_plan or short in _QUERY or short in _DESCRIPTION
        if short in _WORDS or not is_known:
            raise UsageError(f"{_place(node)}{_WORDS.get(short) or f'{short} does more than read'}")
    kind = str(root.getClass().getSimpleName())
    if kind not in ("ShowTables", "ShowViews"):
        return Reading(kind, frozenset(tables))
    pattern = root.pattern()
    is_of_all = root.namespace().getClass().getSimpleName() == "CurrentNamespace$"
    return Reading(kind, frozenset(tables), str(pattern.get()) if pattern.isDefined() else None, is_of_all)


def _refuse_call(node: Any, parts: tuple[str, ...]) -> None:
    if tuple(part.lower() for part in parts[:-1]) not in _BUILTIN:
        raise UsageError(f"{_place(node)}`{'.'.join(parts)}` is none of Spark's own functions that only compute")
    if reason := function_reason(parts[-1]):
        raise UsageError(f"{_place(node)}`{parts[-1]}` {reason}")


def _place(node: Any) -> str:
    line, column = node.origin().line(), node.origin().startPosition()
    return f"line {line.get()}, column {column.get() + 1}: " if line.isDefined() and column.isDefined() else ""


class _Nodes:
    """Walks a Catalyst plan: every node, also those among the arguments of another node."""

    def __init__(self, spark: SparkSession) -> None:
        self._gateway: Any = spark._sc._gateway
        self._kinds: dict[str, str] = {}

    def walk(self, root: Any) -> Iterator[tuple[str, Any, bool]]:
        """Yield, for ``root`` and every node below it, the name of its class, the node, and whether it is a plan (else an expression)."""
        waiting = [root]
        while waiting:
            value = waiting.pop()
            get_class = getattr(value, "getClass", None)  # what is no object of the JVM's is a number, a text or None
            if get_class is None:
                continue
            name = str(get_class().getName())
            if name not in self._kinds:
                self._kinds[name] = self._kind(value, name)
            kind = self._kinds[name]
            if kind in ("plan", "expression"):
                yield name.rpartition(".")[2], value, kind == "plan"
            if kind != "leaf":
                waiting += _elements(value.iterator() if kind == "many" else value.productIterator())

    def texts(self, value: Any) -> tuple[str, ...]:
        """Return the parts of a name: of a sequence of texts, or of a function's identifier."""
        if value.getClass().getSimpleName() == "FunctionIdentifier":
            database = value.database()
            return (*([str(database.get())] if database.isDefined() else []), str(value.funcName()))
        return tuple(str(part) for part in _elements(value.iterator()))

    def _kind(self, value: Any, name: str) -> str:
        from py4j.java_gateway import is_instance_of

        def is_a(of: str) -> bool:
            return bool(is_instance_of(self._gateway, value, of))

        if name.startswith("org.apache.spark.sql.types."):
            return "leaf"
        if is_a(f"{_CATALYST}.trees.TreeNode"):
            return "expression" if is_a(f"{_CATALYST}.expressions.Expression") else "plan"
        if is_a("scala.collection.Iterable"):
            return "many"
        return "some" if is_a("scala.Product") else "leaf"


def _elements(iterator: Any) -> list[Any]:
    elements = []
    while iterator.hasNext():
        elements.append(iterator.next())
    return elements
