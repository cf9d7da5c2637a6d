"""Text stages as column expressions: SQL over texts or sentences, ARRAY<STRING>, and their words, ARRAY<ARRAY<STRING>>.

A lambda variable is evaluated once; a sub-expression used twice would be computed twice. No lambda uses a variable of an outer one, and
none uses BETWEEN: with either, Spark fails to evaluate a Python function over the result.
"""

from __future__ import annotations

from collections.abc import Collection

from tidemill.quoting import quote_name
from tidemill.spec.models import Clean, Ngrams, Sentences, Tokens

# The bound on header lines keeps Java's matcher from a stack overflow.
_MOST_HEADERS = 200
_HEADERS = rf"\A(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*+){{1,{_MOST_HEADERS}}}[ \t\r]*\n"
_FOOTERS = r"(?s)(?:\A|\n)--[ ]?\r?\n.*\z"
_QUOTES = r"(?m)^[ \t]*[>|].*$|^.{0,300}\b(?:wrote|writes|schrieb|escribió|a écrit)\s?:[ \t]*$"
_MARKUP = r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[/!?]?[a-z][^<>]*>"
# A sentence ends after its punctuation and closing quotes or brackets, before white space and a capital or number; or at a blank line.
_ABBREVIATED = r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|No|Inc|Ltd|Co|Corp|Gen|Sen|Rep|[A-Z])\."
_SENTENCE = (
    rf"(?<=[.!?…][\"'”’)\]]{{0,2}})(?<!{_ABBREVIATED})\s+(?=[\"'“‘(\[]{{0,2}}[\p{{Lu}}\p{{N}}])"
    r"|(?<=[。！？])|\n[ \t\r]*\n"
)
_LETTERS = r"[\p{L}\p{M}\p{N}_]"


def literal(text: str) -> str:
    """Return the text as a SQL literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def text_sql(name: str) -> str:
    """Return SQL for the column as an array of one text; null becomes an empty text."""
    return f"array(coalesce(CAST({quote_name(name)} AS STRING), ''))"


def clean_sql(texts: str, stage: Clean) -> str:
    """Return SQL for the texts without headers, footers, quotes and markup, as the stage declares; character references stay."""
    expression = "t"
    for is_wanted, pattern in ((stage.headers, _HEADERS), (stage.footers, _FOOTERS), (stage.quotes, _QUOTES)):
        if is_wanted:
            expression = f"regexp_replace({expression}, {literal(pattern)}, '')"
    if stage.html:
        expression = f"regexp_replace({expression}, {literal(_MARKUP)}, ' ')"
    return f"transform({texts}, t -> {expression})"


def sentences_sql(texts: str, stage: Sentences) -> str:
    """Return SQL for the sentences of the texts, trimmed."""
    parts = f"flatten(transform({texts}, t -> split(t, {literal(_SENTENCE)})))"
    expression = f"filter(transform({parts}, s -> trim(regexp_replace(s, '\\\\s+', ' '))), s -> s <> '')"
    return expression if stage.first is None else f"slice({expression}, 1, {stage.first})"


def tokens_sql(texts: str, stage: Tokens) -> str:
    """Return SQL for the words of each text or sentence."""
    text = "lower(t)" if stage.lowercase else "t"
    if stage.pattern is None:
        return f"transform({texts}, t -> regexp_extract_all({text}, {literal(f'{_LETTERS}{{{stage.min_length},}}')}, 0))"
    expression = f"regexp_extract_all({text}, {literal(stage.pattern)}, 0)"
    return f"transform({texts}, t -> filter({expression}, w -> length(w) >= {stage.min_length}))"


def stopwords_sql(words: str, stop: Collection[str]) -> str:
    """Return SQL for the words without those of ``stop``, ignoring case."""
    if not stop:
        return words
    listed = ", ".join(literal(word) for word in sorted(stop))
    return f"transform({words}, s -> filter(s, w -> lower(w) NOT IN ({listed})))"


def ngrams_sql(words: str, stage: Ngrams) -> str:
    """Return SQL for the terms of each sentence.

    Character n-grams stay within a word, padded with a space on both sides; a shorter word counts once: scikit-learn's ``char_wb``.
    """
    least, most = stage.lengths
    if stage.of == "characters":
        # An empty match before each character, with the n-gram as a lookahead group, since matches cannot overlap.
        rows = [f"regexp_extract_all(w, '(?s)(?=(.{{{n}}}))', 1)" for n in range(least, most + 1)]
        grams = f"CASE WHEN length(w) < {least} THEN array(w) ELSE concat({', '.join(rows)}) END"
        return f"transform({words}, s -> flatten(transform(transform(s, w -> concat(' ', w, ' ')), w -> {grams})))"
    return f"transform({words}, s -> concat({', '.join(_ngrams_of_length(n) for n in range(least, most + 1))}))"


def _ngrams_of_length(n: int) -> str:
    """Return SQL for the n-grams of ``n`` consecutive words of the array ``s``."""
    count = f"greatest(size(s) - {n - 1}, 0)"
    expression = f"slice(s, 1, {count})"
    for place in range(2, n + 1):
        expression = f"zip_with({expression}, slice(s, {place}, {count}), (g, w) -> concat(g, ' ', w))"
    return expression
