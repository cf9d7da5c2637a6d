"""SQL that names tables as ``layer.name``: its statements, the tables it reads, and the same SQL with each table at a fixed version."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.errors import UsageError
from tidemill.quoting import LAYERS, quote_name

_PIECE = re.compile(
    r"""
      (?P<comment>  --(?:\\\n|[^\r\n])* )
    | (?P<opening>  /\* )
    | (?P<text>     [rR]'[^']*' | [rR]"[^"]*" | '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
    | (?P<quoted>   `(?:[^`]|``)*` )
    | (?P<word>     [^\W\d]\w* )
    | (?P<number>   \d\w* (?:\.\d\w*)? | \.\d\w* )
    | (?P<end>      ; )
    | (?P<space>    \s+ )
    | (?P<open>     ['"`] )
    | (?P<sign>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTED = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Piece:
    """One piece of SQL text: its kind (a name of ``_PIECE``, ``comment`` for both sorts) and its position."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One statement, blank up to its beginning so that its lines and columns are the file's; without its semicolon."""

    text: str
    is_ended: bool

    @property
    def first_word(self) -> str:
        """The first word in upper case, empty where there is none."""
        return next((self.text[piece.start : piece.end].upper() for piece in split_pieces(self.text) if piece.kind == "word"), "")


def split_pieces(sql: str) -> Iterator[Piece]:
    """Yield the pieces of ``sql``; a string, name or comment that is not closed goes to the end, as ``open``."""
    position = 0
    while match := _PIECE.match(sql, position):
        kind, end = str(match.lastgroup), match.end()
        if kind == "opening":
            end = _comment_end(sql, position)
            kind = "comment" if end else "open"
        if kind == "open":
            end = len(sql)
        yield Piece(kind, position, end)
        position = end


def _comment_end(sql: str, start: int) -> int:
    """Return where the bracketed comment at ``start`` ends, comments inside of it counted; 0 where it does not."""
    depth = 0
    for mark in _NESTED.finditer(sql, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return 0


def split_statements(sql: str) -> list[Statement]:
    """Return the statements of ``sql``: semicolons end them, except in strings, quoted names and comments; comments alone are none."""
    statements: list[Statement] = []
    start: int | None = None
    begin = 0
    for piece in split_pieces(sql):
        if piece.kind == "end":
            if start is not None:
                statements.append(_make_statement(sql, begin, piece.start, is_ended=True))
            start, begin = None, piece.end
        elif piece.kind not in ("space", "comment") and start is None:
            start = piece.start
    if start is not None:
        statements.append(_make_statement(sql, begin, len(sql), is_ended=False))
    return statements


def _make_statement(sql: str, start: int, end: int, *, is_ended: bool) -> Statement:
    return Statement(re.sub(r"[^\n]", " ", sql[:start]) + sql[start:end], is_ended)


def require_one_statement(sql: str) -> Statement:
    """Return the only statement of ``sql``, without the semicolons and comments around it.

    Raises:
        UsageError: there is none, or more than one.
    """
    statements = split_statements(sql)
    if len(statements) != 1:
        raise UsageError(f"expected one SQL statement, found {len(statements) or 'none'}")
    return statements[0]


@lru_cache(maxsize=1)
def _keywords() -> frozenset[str]:
    from sqlglot.dialects import Databricks

    return frozenset(word.upper() for word in Databricks.Tokenizer.KEYWORDS)


def is_keyword(word: str) -> bool:
    """Return True for a word that the SQL parser may take for more than a name."""
    return word.upper() in _keywords()


def quote_names(sql: str) -> tuple[str, list[int]]:
    """Put backticks around keywords next to a dot, which are names there (``silver.any``, ``values.a``).

    Returns the text, and where in it a character was added.
    """
    tokens = [piece for piece in split_pieces(sql) if piece.kind not in ("space", "comment")]
    named = [_is_name(sql, tokens, place) for place in range(len(tokens))]
    text, added, last = "", list[int](), 0
    for token, is_name in zip(tokens, named, strict=True):
        if is_name:
            text += sql[last : token.start]
            added += [len(text), len(text) + 1 + token.end - token.start]
            text += f"`{sql[token.start : token.end]}`"
            last = token.end
    return text + sql[last:], added


def _is_name(sql: str, tokens: list[Piece], place: int) -> bool:
    token = tokens[place]
    if token.kind != "word" or not is_keyword(sql[token.start : token.end]):
        return False
    after, then, before = (tokens[at] if 0 <= at < len(tokens) else None for at in (place + 1, place + 2, place - 1))
    if after is not None and sql[after.start : after.end] == "(":
        return False  # a function, perhaps one of a catalog
    if before is not None and sql[before.start : before.end] == "." and place >= 2 and tokens[place - 2].kind in ("word", "quoted"):
        return True
    follows = after is not None and sql[after.start : after.end] == "."
    return follows and then is not None and (then.kind in ("word", "quoted") or sql[then.start : then.end] == "*")


logging.getLogger("sqlglot").setLevel(logging.ERROR)  # parse errors are raised; the warnings would repeat them


@lru_cache(maxsize=256)
def parse(sql: str) -> tuple[exp.Expr, str, tuple[int, ...]]:
    """Return the tree of the one statement in ``sql``, the text that was parsed, and where that text has more characters than ``sql``.

    Raises:
        UsageError: the SQL does not parse, or is more than one statement.
    """
    text, added = quote_names(require_one_statement(sql).text)
    try:
        trees = [tree for tree in sqlglot.parse(text, dialect="databricks") if tree is not None and not isinstance(tree, exp.Semicolon)]
    except SqlglotError as error:
        detail = getattr(error, "errors", None) or [{}]
        line, near = detail[0].get("line"), detail[0].get("highlight")
        place = f" at line {line}, near {near!r}" if line else ""
        raise UsageError(f"SQL that does not parse{place}: {detail[0].get('description') or str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise UsageError("SQL that is nested too deeply to be parsed; split it into common table expressions or tables") from error
    if len(trees) != 1:
        raise UsageError(f"expected one SQL statement, found {len(trees)}")
    return trees[0], text, tuple(added)


def _tables(tree: exp.Expr) -> list[exp.Table]:
    return [table for table in tree.find_all(exp.Table) if table.db.lower() in LAYERS]


def is_query(sql: str) -> bool:
    """Return True where ``sql`` only reads (SELECT, WITH, VALUES, set operations)."""
    return isinstance(parse(sql)[0], exp.Query)


def table_names(sql: str) -> frozenset[str]:
    """Return the lake's tables that ``sql`` reads, as ``layer.name``.

    Raises:
        UsageError: the SQL does not parse, or is more than one statement.
    """
    return frozenset(f"{table.db.lower()}.{table.name}" for table in _tables(parse(sql)[0]))


def has_join(sql: str) -> bool:
    """Return True where the query joins tables or generates rows, so that keys may occur in more rows than before."""
    return parse(sql)[0].find(exp.Join, exp.Lateral, exp.Explode, exp.Posexplode) is not None


def replace_tables(sql: str, place: Callable[[str], str]) -> str:
    """Return the statement with each ``layer.name`` replaced by ``place("layer.name")``; every other character stays.

    A table without an alias gets its own name as one, so that ``flights.carrier`` still means its column.
    """
    tree, text, _ = parse(sql)
    edits: list[tuple[int, int, str]] = []
    for table in _tables(tree):
        own = quote_name(table.name) if is_keyword(table.name) else table.name
        alias = "" if table.alias else f" AS {own}"
        edits.append((_start(table.args["db"]), _end(table.this), place(f"{table.db.lower()}.{table.name}") + alias))
    for column in tree.find_all(exp.Column):
        if column.args.get("db") is not None and column.db.lower() in LAYERS:
            edits.append((_start(column.args["db"]), _start(column.args["table"]), ""))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _start(identifier: exp.Identifier) -> int:
    return int(identifier.meta["start"])


def _end(identifier: exp.Identifier) -> int:
    return int(identifier.meta["end"]) + 1
