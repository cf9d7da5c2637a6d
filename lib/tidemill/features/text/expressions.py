"""The stages that are column expressions: SQL over sentences, ARRAY<STRING>, and over the words of each, ARRAY<ARRAY<STRING>>.

What stands in a lambda is bound once; a plain sub-expression that is named twice would be computed twice. No lambda names a variable of
one around it, and none of them holds BETWEEN: Spark then leaves a Python function that takes the result unevaluated.
"""

from __future__ import annotations

from collections.abc import Collection

from tidemill.quoting import quote_name
from tidemill.spec.models import Clean, Ngrams, Sentences, Tokens

# Lines of a mail's header are a handful; a bound keeps Java's matcher off its stack's end.
_MOST_HEADERS = 200
_HEADERS = rf"\A(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*+){{1,{_MOST_HEADERS}}}[ \t\r]*\n"
_FOOTERS = r"(?s)(?:\A|\n)--[ ]?\r?\n.*\z"
_QUOTES = r"(?m)^[ \t]*[>|].*$|^.{0,300}\b(?:wrote|writes|schrieb|escribió|a écrit)\s?:[ \t]*$"
_MARKUP = r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[/!?]?[a-z][^<>]*>"
# A sentence ends behind its mark and what closes, before white space and what may begin the next one; or at a blank line.
_ABBREVIATED = r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|No|Inc|Ltd|Co|Corp|Gen|Sen|Rep|[A-Z])\."
_SENTENCE = (
    rf"(?<=[.!?…][\"'”’)\]]{{0,2}})(?<!{_ABBREVIATED})\s+(?=[\"'“‘(\[]{{0,2}}[\p{{Lu}}\p{{N}}])"
    r"|(?<=[。！？])|\n[ \t\r]*\n"
)
_LETTERS = r"[\p{L}\p{M}\p{N}_]"


def literal(text: str) -> str:
    """Return SQL for the text."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def text_sql(name: str) -> str:
    """Return SQL for the column as an array of one text; null is an empty one."""
    return f"array(coalesce(CAST({quote_name(name)} AS STRING), ''))"


def clean_sql(texts: str, stage: Clean) -> str:
    """Return SQL for the texts without what the stage takes out; character references stay."""
    found = "t"
    for is_wanted, pattern in ((stage.headers, _HEADERS), (stage.footers, _FOOTERS), (stage.quotes, _QUOTES)):
        if is_wanted:
            found = f"regexp_replace({found}, {literal(pattern)}, '')"
    if stage.html:
        found = f"regexp_replace({found}, {literal(_MARKUP)}, ' ')"
    return f"transform({texts}, t -> {found})"


def sentences_sql(texts: str, stage: Sentences) -> str:
    """Return SQL for the sentences of the texts, white space around them gone."""
    parts = f"flatten(transform({texts}, t -> split(t, {literal(_SENTENCE)})))"
    found = f"filter(transform({parts}, s -> trim(regexp_replace(s, '\\\\s+', ' '))), s -> s <> '')"
    return found if stage.first is None else f"slice({found}, 1, {stage.first})"


def tokens_sql(texts: str, stage: Tokens) -> str:
    """Return SQL for the words of each text or sentence."""
    text = "lower(t)" if stage.lowercase else "t"
    if stage.pattern is None:
        return f"transform({texts}, t -> regexp_extract_all({text}, {literal(f'{_LETTERS}{{{stage.min_length},}}')}, 0))"
    found = f"regexp_extract_all({text}, {literal(stage.pattern)}, 0)"
    return f"transform({texts}, t -> filter({found}, w -> length(w) >= {stage.min_length}))"


def stopwords_sql(words: str, stop: Collection[str]) -> str:
    """Return SQL for the words without those of ``stop``, whatever their case."""
    if not stop:
        return words
    listed = ", ".join(literal(word) for word in sorted(stop))
    return f"transform({words}, s -> filter(s, w -> lower(w) NOT IN ({listed})))"


def ngrams_sql(words: str, stage: Ngrams) -> str:
    """Return SQL for the terms of each sentence.

    Characters are taken inside a word with a space before and behind it, a word that is shorter counts once: scikit-learn's ``char_wb``.
    """
    least, most = stage.lengths
    if stage.of == "characters":
        # An empty match before each character, with what follows as its group: matches themselves do not overlap.
        rows = [f"regexp_extract_all(w, '(?s)(?=(.{{{n}}}))', 1)" for n in range(least, most + 1)]
        grams = f"CASE WHEN length(w) < {least} THEN array(w) ELSE concat({', '.join(rows)}) END"
        return f"transform({words}, s -> flatten(transform(transform(s, w -> concat(' ', w, ' ')), w -> {grams})))"
    return f"transform({words}, s -> concat({', '.join(_in_a_row(n) for n in range(least, most + 1))}))"


def _in_a_row(n: int) -> str:
    """Return SQL for each ``n`` words of the array ``s`` that follow each other."""
    count = f"greatest(size(s) - {n - 1}, 0)"
    found = f"slice(s, 1, {count})"
    for place in range(2, n + 1):
        found = f"zip_with({found}, slice(s, {place}, {count}), (g, w) -> concat(g, ' ', w))"
    return found
