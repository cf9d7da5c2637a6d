"""The stages of a text group: from raw text to words, and from words to a vector."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from tidemill.options import Block, DottedName, Share

# The languages with MLlib stop words; Snowball stems these and more.
StopLanguage = Literal[
    "danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese", "russian", "spanish",
    "swedish", "turkish",
]  # fmt: skip
StemLanguage = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian", "norwegian", "porter",
    "portuguese", "romanian", "russian", "spanish", "swedish", "turkish",
]  # fmt: skip
Word = Annotated[str, StringConstraints(min_length=1)]
# A whole number counts documents, a fraction is a share of them.
Documents = Annotated[int, Field(ge=1)] | Share


class Clean(Block):
    """Removes markup and quotations from a text."""

    html: bool = Field(default=True, description="tags, scripts and comments become a space, character references their character")
    quotes: bool = Field(default=True, description="lines of mail that begin with > or |, and the line that says who wrote them")
    headers: bool = Field(default=False, description="lines such as `Subject: …` that a text begins with, up to the first blank line")
    footers: bool = Field(default=False, description="what follows a line `--`")


class Unicode(Block):
    """Normalises characters that look alike."""

    form: Literal["NFC", "NFKC", "NFD", "NFKD"] = "NFKC"
    accents: Literal["keep", "strip"] = "keep"


class Sentences(Block):
    """Splits a text into sentences; n-grams of words do not cross sentence ends."""

    first: int | None = Field(default=None, gt=0, description="keep only this many sentences")


class Tokens(Block):
    """Splits a text into words."""

    pattern: str | None = Field(default=None, description="a Java regular expression of one word; absent: letters, digits and _")
    lowercase: bool = True
    min_length: int = Field(default=2, ge=1, description="shorter words are left out")

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        try:
            # Python does not know Java's property classes; the rest of the pattern is checked for syntax, such as unclosed brackets.
            re.compile(re.sub(r"\\[pP](\{\w+\}|\w)", "x", pattern or "").replace("(?U)", ""))
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        if pattern == "":
            raise ValueError("empty; leave it out for letters, digits and _")
        return pattern


class Stopwords(Block):
    """Removes common words."""

    language: StopLanguage = "english"
    words: list[Word] = Field(default=[], description="more words to leave out")
    keep: list[Word] = Field(default=[], description="words of the language's list that stay")


class Stem(Block):
    """Reduces words to their stems, by Snowball's rules."""

    language: StemLanguage = "english"


class Ngrams(Block):
    """Builds terms of consecutive words or characters; ``from`` 1 keeps the single ones."""

    of: Literal["words", "characters"] = "words"
    from_: int | None = Field(default=None, alias="from", ge=1, le=20, description="absent: 1 word, 3 characters")
    to: int | None = Field(default=None, ge=1, le=20, description="absent: 2 words, 5 characters")

    @property
    def lengths(self) -> tuple[int, int]:
        """The shortest and the longest number of words or characters."""
        least, most = (1, 2) if self.of == "words" else (3, 5)
        shortest = self.from_ if self.from_ is not None else min(least, self.to or least)
        return shortest, self.to if self.to is not None else max(most, shortest)

    @model_validator(mode="after")
    def _in_order(self) -> Ngrams:
        shortest, longest = self.lengths
        if shortest > longest:
            raise ValueError(f"`from` {shortest} is above `to` {longest}")
        return self


class Tfidf(Block):
    """Weights terms by their frequency in the text and their rarity among texts."""

    by: Literal["vocabulary", "hashing"] = "vocabulary"
    size: int = Field(default=100_000, ge=1, le=1 << 24, description="vocabulary: the most terms; hashing: the number of buckets")
    min_df: Documents = Field(default=2, description="terms in fewer documents are left out: a count, or a share with a point (0.01)")
    max_df: Documents = Field(default=1.0, description="terms in more documents are left out")
    sublinear: bool = Field(default=True, description="1 + ln(count) instead of the count")
    idf: bool = Field(default=True, description="ln((1 + documents) / (1 + documents with the term)) + 1; false: counts alone")
    norm: Literal["l2", "l1", "none"] = "l2"

    @model_validator(mode="after")
    def _in_order(self) -> Tfidf:
        if isinstance(self.min_df, int) == isinstance(self.max_df, int) and self.min_df > self.max_df:
            raise ValueError(f"`min_df` {self.min_df} is above `max_df` {self.max_df}; no term can satisfy both")
        return self


class Word2vec(Block):
    """Averages the vectors of a text's words; the vectors are learnt from the training rows."""

    size: int = Field(default=100, ge=1, le=2000)
    min_count: int = Field(default=5, ge=0, description="rarer words have no vector")
    window: int = Field(default=5, ge=1)
    iterations: int = Field(default=1, ge=1)
    seed: int = 7


class Embedding(Block):
    """A Python model: takes a batch of texts, returns an array of one row per text."""

    python: DottedName
    params: dict[str, Any] = Field(default={})


class TextStage(Block):
    """One stage with its parameters: a block of one key."""

    clean: Clean | None = None
    unicode: Unicode | None = None
    sentences: Sentences | None = None
    tokens: Tokens | None = None
    stopwords: Stopwords | None = None
    stem: Stem | None = None
    ngrams: Ngrams | None = None
    tfidf: Tfidf | None = None
    word2vec: Word2vec | None = None
    embedding: Embedding | None = None

    @model_validator(mode="after")
    def _one_key(self) -> TextStage:
        if len(self.model_fields_set) != 1 or self.parameters is None:
            raise ValueError("a stage is its name, or a block of one key such as `{ngrams: {of: words, to: 2}}`; begin a new item with `-`")
        return self

    @property
    def parameters(self) -> Stage | None:
        """The parameters of the declared stage."""
        return next((value for name in self.model_fields_set if (value := getattr(self, name)) is not None), None)


Stage = Clean | Unicode | Sentences | Tokens | Stopwords | Stem | Ngrams | Tfidf | Word2vec | Embedding
StageName = Literal["clean", "unicode", "sentences", "tokens", "stopwords", "stem", "ngrams", "tfidf", "word2vec", "embedding"]

_BY_NAME: dict[str, Callable[[], Stage]] = {
    "clean": Clean, "unicode": Unicode, "sentences": Sentences, "tokens": Tokens, "stopwords": Stopwords, "stem": Stem, "ngrams": Ngrams,
    "tfidf": Tfidf, "word2vec": Word2vec,
}  # fmt: skip
OF_TEXT, OF_WORDS, TO_VECTOR = ("clean", "unicode", "sentences"), ("stopwords", "stem", "ngrams"), ("tfidf", "word2vec", "embedding")


def stage_name(stage: Stage) -> str:
    """Return the name of a stage."""
    return type(stage).__name__.lower()


def resolve_stages(stages: list[StageName | TextStage]) -> list[Stage]:
    """Return each stage's parameters, the default ones for a stage given by name.

    Raises:
        ValueError: a stage has no defaults, or the stages are in an order that cannot be.
    """
    resolved: list[Stage] = []
    for stage in stages:
        if stage == "embedding":
            raise ValueError("`embedding` needs the model: `{embedding: {python: package.function}}`")
        parameters = stage.parameters if isinstance(stage, TextStage) else _BY_NAME[stage]()
        assert parameters is not None  # TextStage validates it
        resolved.append(parameters)
    _check_order([stage_name(stage) for stage in resolved])
    return resolved


def _check_order(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`{name}` is given twice")
    makers = [name for name in names if name in TO_VECTOR]
    if len(makers) != 1 or names[-1] != makers[0]:
        raise ValueError(f"the last stage, and no other, makes a vector: one of {', '.join(TO_VECTOR)}; found {', '.join(names)}")
    place = names.index("tokens") if "tokens" in names else len(names)
    for index, name in enumerate(names):
        if name in OF_TEXT and index > place:
            raise ValueError(f"`{name}` works on text and comes before `tokens`")
        if name in OF_WORDS and index < place:
            raise ValueError(f"`{name}` works on words; put `tokens` before it")
    if makers[0] == "embedding":
        if "tokens" in names or "sentences" in names:
            raise ValueError("`embedding` takes the text as it is; leave out `tokens`, `sentences` and what works on words")
    elif "tokens" not in names:
        raise ValueError(f"`{makers[0]}` works on words; put `tokens` before it")
    if "sentences" in names and "unicode" in names[names.index("sentences") :]:
        raise ValueError("`unicode` comes before `sentences`")
    if "sentences" in names and "clean" in names[names.index("sentences") :]:
        raise ValueError("`clean` comes before `sentences`")
    if "ngrams" in names and set(names[names.index("ngrams") :]) & {"stopwords", "stem"}:
        raise ValueError("`ngrams` comes behind `stopwords` and `stem`, which work on single words")
