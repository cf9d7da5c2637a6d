"""SQL text as Spark's lexer cuts it: where statements end, and which words are names though they look like keywords."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tidemill.errors import UsageError

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
    """One piece of SQL text: its kind (a name of ``_PIECE``, ``comment`` for both sorts) and where it stands."""

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
        return next((self.text[piece.start : piece.end].upper() for piece in pieces(self.text) if piece.kind == "word"), "")


def pieces(sql: str) -> Iterator[Piece]:
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
    for piece in pieces(sql):
        if piece.kind == "end":
            if start is not None:
                statements.append(_cut(sql, begin, piece.start, is_ended=True))
            start, begin = None, piece.end
        elif piece.kind not in ("space", "comment") and start is None:
            start = piece.start
    if start is not None:
        statements.append(_cut(sql, begin, len(sql), is_ended=False))
    return statements


def _cut(sql: str, start: int, end: int, *, is_ended: bool) -> Statement:
    return Statement(re.sub(r"[^\n]", " ", sql[:start]) + sql[start:end], is_ended)


def one_statement(sql: str) -> Statement:
    """Return the only statement of ``sql``, whatever semicolons and comments stand around it.

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
    """Put backticks around keywords beside a dot, which are names there (``silver.any``, ``values.a``).

    Returns the text, and where in it a character was added.
    """
    tokens = [piece for piece in pieces(sql) if piece.kind not in ("space", "comment")]
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
