"""The stages of texts in a spec: defaults, order, and faults that name what was meant."""

import pytest
from pydantic import ValidationError

from tidemill.features.groups import Text


def _text(*stages):
    return Text.model_validate({"columns": ["remarks"], "stages": list(stages)})


def test_a_name_stands_for_its_defaults_and_a_block_for_its_parameters():
    clean, tokens, stopwords, ngrams, tfidf = _text(
        "clean", "tokens", {"stopwords": {"language": "german"}}, {"ngrams": {"of": "characters", "from": 2, "to": 4}}, "tfidf"
    ).steps
    assert (clean.html, clean.quotes, clean.headers, clean.footers) == (True, True, False, False)
    assert (tokens.lowercase, tokens.min_length) == (True, 2)
    assert stopwords.language == "german"
    assert ngrams.lengths == (2, 4)
    assert (tfidf.by, tfidf.min_df, tfidf.max_df, tfidf.sublinear, tfidf.norm) == ("vocabulary", 2, 1.0, True, "l2")


@pytest.mark.parametrize(
    ("given", "lengths"),
    [({}, (1, 2)), ({"of": "characters"}, (3, 5)), ({"to": 3}, (1, 3)), ({"from": 4}, (4, 4)), ({"of": "characters", "to": 2}, (2, 2))],
)
def test_lengths_of_ngrams_that_are_not_given(given, lengths):
    assert _text("tokens", {"ngrams": given}, "tfidf").steps[1].lengths == lengths


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["tokens"], "the last stage, and no other, makes a vector"),
        (["tokens", "tfidf", "word2vec"], "the last stage, and no other, makes a vector"),
        (["tfidf"], "`tfidf` works on words; put `tokens` before it"),
        (["stopwords", "tokens", "tfidf"], "`stopwords` works on words; put `tokens` before it"),
        (["tokens", "clean", "tfidf"], "`clean` works on text and comes before `tokens`"),
        (["tokens", "ngrams", "stem", "tfidf"], "`ngrams` comes behind"),
        (["tokens", "tokens", "tfidf"], "`tokens` is given twice"),
        (["sentences", "clean", "tokens", "tfidf"], "`clean` comes before `sentences`"),
        (["tokens", {"embedding": {"python": "a.b"}}], "`embedding` takes the text as it is"),
        (["embedding"], "`embedding` needs the model"),
        ([{"tokens": {}, "tfidf": {}}], "a block of one key"),
        ([{"tokens": {"pattern": "(a"}}, "tfidf"], "is no regular expression"),
        (["tokens", {"ngrams": {"from": 3, "to": 2}}, "tfidf"], "`from` 3 is above `to` 2"),
        (["tokens", {"tfidf": {"min_df": 5, "max_df": 3}}], "`min_df` 5 is above `max_df` 3"),
    ],
)
def test_what_does_not_fit_together_is_refused(stages, message):
    with pytest.raises(ValidationError) as caught:
        _text(*stages)
    assert message in str(caught.value)


def _with_text(stages: str) -> tuple[str, str]:
    return "  numeric: {columns: [distance]}", f"  text: {{columns: [remarks], stages: {stages}}}"


@pytest.mark.parametrize(
    ("stages", "key", "message"),
    [
        ("[tokens, tfidff]", "features.text.stages.1", "did you mean 'tfidf'?"),
        ("[tokens, {tfidff: {}}]", "features.text.stages.1.tfidff", "unknown key; did you mean 'tfidf'?"),
        ("[tokens, {tfidf: {min_dff: 2}}]", "features.text.stages.1.tfidf.min_dff", "unknown key; did you mean 'min_df'?"),
        ("[tokens, {stopwords: {language: englsh}}, tfidf]", "features.text.stages.1.stopwords.language", "did you mean 'english'?"),
        ("[stem, tokens, tfidf]", "features.text.stages", "`stem` works on words; put `tokens` before it"),
    ],
)
def test_faults_have_line_key_and_nearest_match(faults, changed, stages, key, message):
    ((line, actual, fault_message),) = faults(changed(*_with_text(stages)))
    assert (line, actual) == (23, key)
    assert message in fault_message


def test_naive_bayes_is_refused_where_texts_become_signed_numbers(faults, changed):
    text = changed(*_with_text("[tokens, word2vec]"), "random_forest: {numTrees: {int: [20, 100]}, maxDepth: [4, 8]}", "naive_bayes: {}")
    assert [(line, key) for line, key, _ in faults(text)] == [(28, "training.models.naive_bayes")]
