"""Stop words by language: MLlib's lists, in the forms that words have once a text is taken apart."""

from __future__ import annotations

import re

from pyspark.ml.feature import StopWordsRemover

from tidemill.spec.models import Stopwords

_APOSTROPHE = re.compile(r"['’]")


def stop_words(stage: Stopwords) -> set[str]:
    """Return the words to leave out, in lower case.

    A contraction such as "don't" also stands as its parts "don" and "t", since most patterns of words part it there.
    """
    listed = {word.lower() for word in StopWordsRemover.loadDefaultStopWords(stage.language)}
    listed |= {word.lower() for word in stage.words}
    parts = {part for word in listed for part in _APOSTROPHE.split(word) if part}
    return (listed | parts) - {word.lower() for word in stage.keep}
