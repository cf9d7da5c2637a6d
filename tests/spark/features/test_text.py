"""Text stages against scikit-learn, Python's own parsers, and by hand."""

import html
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from tidemill.errors import StepError
from tidemill.features import FeaturePlan, feature_pipeline, slot_names
from tidemill.features.groups import Numeric, Text
from tidemill.features.names import internal_name
from tidemill.features.text import fit_texts

TEXTS = [
    "The ship sails; the grain is on the ship. A ship, ships!",
    "Grain prices rose and rose. The harvest of grain was late",
    "Shares of the bank fell, a bank's shares: 3 per cent of shares",
    "Über den Fluß: the café's straße, naïve trade in trade, and the bank",
    "Profit rose, the bank said; trade in grain and shares rose too",
    "",
    None,
]


@pytest.fixture(scope="module")
def df(spark):
    frame = spark.createDataFrame([(i, text) for i, text in enumerate(TEXTS)], "id INT, remarks STRING").coalesce(1).persist()
    yield frame
    frame.unpersist()


def _group(*stages, columns=("remarks",)):
    return Text.model_validate({"columns": list(columns), "stages": list(stages)})


def _terms(spark, texts, *stages):
    """What the stages make of single texts, before they become a vector."""
    frame = spark.createDataFrame([(i, text) for i, text in enumerate(texts)], "id INT, remarks STRING").coalesce(1)
    fitted = fit_texts(frame, _group(*stages, {"tfidf": {"by": "hashing", "size": 8, "min_df": 1}}), for_trees=False)
    for stage in fitted.stages:
        frame = stage.transform(frame)
    column = next(name for name in fitted.added if name.startswith("_f_terms"))
    return [row[0] for row in frame.orderBy("id").select(column).collect()]


def _fit(df, group, encodings=("linear",), **groups):
    return feature_pipeline(FeaturePlan.of(text=group, **groups), encodings).fit(df)


def _matrix(model, df, encoding="linear"):
    rows = model.transform(df).orderBy("id").select(f"features_{encoding}").collect()
    return np.array([row[0].toArray() for row in rows]), slot_names(model, encoding)


def _same_as_scikit_learn(df, group, vectorizer):
    expected = vectorizer.fit_transform([text or "" for text in TEXTS]).toarray()
    actual, names = _matrix(_fit(df, group), df)
    words = [name.removeprefix("remarks=") for name in names]
    assert sorted(words) == sorted(vectorizer.get_feature_names_out())
    order = [vectorizer.vocabulary_[word] for word in words]
    np.testing.assert_allclose(actual, expected[:, order], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("params", "vectorizer"),
    [
        ({"min_df": 1}, TfidfVectorizer(sublinear_tf=True)),
        ({"min_df": 2, "sublinear": False, "norm": "l1"}, TfidfVectorizer(min_df=2, norm="l1")),
        ({"min_df": 0.25, "max_df": 0.5, "norm": "none"}, TfidfVectorizer(min_df=0.25, max_df=0.5, norm=None, sublinear_tf=True)),
        ({"min_df": 1, "max_df": 3, "idf": False, "sublinear": False, "norm": "none"}, CountVectorizer(max_df=3)),
        ({"min_df": 1, "idf": False}, TfidfVectorizer(use_idf=False, sublinear_tf=True)),
    ],
)
def test_tfidf_is_scikit_learns(df, params, vectorizer):
    _same_as_scikit_learn(df, _group("tokens", {"tfidf": params}), vectorizer)


def test_ngrams_of_words_are_scikit_learns(df):
    group = _group("tokens", {"ngrams": {"of": "words", "from": 1, "to": 3}}, {"tfidf": {"min_df": 1}})
    _same_as_scikit_learn(df, group, TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 3)))


@pytest.mark.parametrize(("shortest", "longest"), [(2, 4), (3, 3), (4, 7)])
def test_ngrams_of_characters_are_scikit_learns_within_words(df, shortest, longest):
    group = _group(
        "tokens", {"ngrams": {"of": "characters", "from": shortest, "to": longest}}, {"tfidf": {"min_df": 1, "sublinear": False}}
    )
    # scikit-learn takes punctuation for a part of words here, so it is given the words.
    words = CountVectorizer().build_analyzer()
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(shortest, longest), preprocessor=lambda text: " ".join(words(text)))
    _same_as_scikit_learn(df, group, vectorizer)


def test_the_greatest_vocabulary_keeps_the_terms_of_most_documents(df):
    _, names = _matrix(_fit(df, _group("tokens", {"tfidf": {"min_df": 1, "size": 4}})), df)
    # By hand: `the` is in five texts; and, bank, grain, rose are in three, of which b and g come before r.
    assert names == ["remarks=the", "remarks=and", "remarks=bank", "remarks=grain"]


def test_hashing_weighs_buckets_as_scikit_learn_weighs_terms(df):
    actual, names = _matrix(_fit(df, _group("tokens", {"tfidf": {"by": "hashing", "size": 1 << 16, "min_df": 1}})), df)
    expected = TfidfVectorizer(sublinear_tf=True).fit_transform([text or "" for text in TEXTS]).toarray()
    assert len(names) == 1 << 16
    assert names[7] == "remarks=#7"
    used = actual.any(axis=0)
    assert used.sum() == expected.shape[1]  # no two terms share one of so many buckets
    np.testing.assert_allclose(actual[:, used] @ actual[:, used].T, expected @ expected.T, atol=1e-12)


def test_hashing_leaves_out_buckets_of_too_few_or_too_many_documents(df):
    actual, _ = _matrix(_fit(df, _group("tokens", {"tfidf": {"by": "hashing", "size": 1 << 16, "min_df": 2, "max_df": 4}})), df)
    expected = CountVectorizer(min_df=2, max_df=4).fit([text or "" for text in TEXTS])
    assert actual.any(axis=0).sum() == len(expected.vocabulary_)


def test_markup_is_taken_out_and_references_are_python_s(spark):
    pages = [
        "<p>Fish &amp; chips&nbsp;&lt;3</p><script>var x = '<b>';</script><!-- no\n<b> -->caf&eacute; &#8364;5 &#x1F600; &unheard; a&b",
        "1 < 2 and 3 > 2 <br/>line<BR>break",
    ]
    actual = _terms(spark, pages, {"clean": {"quotes": False}}, {"tokens": {"pattern": r"\S+", "min_length": 1, "lowercase": False}})
    assert actual[0] == ["Fish", "&", "chips\xa0<3", "café", "€5", "😀", "&unheard;", "a&b"]
    assert actual[1] == ["1", "<", "2", "and", "3", ">", "2", "line", "break"]
    named = ["&Auml;", "&szlig;", "&hearts;", "&copy;", "&ndash;", "&#169;", "&#xE9;"]
    assert [terms[0] for terms in _terms(spark, named, "clean", {"tokens": {"pattern": r"\S+", "min_length": 1, "lowercase": False}})] == [
        html.unescape(name) for name in named
    ]


MAIL = """From: someone@example.org
Subject: Re: engines
 and more
Lines: 9

Ann Other <ann@example.org> wrote:
> old words
> > older words
My own words.
| quoted too
--{}
signature here
""".format(" ")


@pytest.mark.parametrize(
    ("params", "gone"),
    [
        ({}, {"old", "older", "ann", "other", "wrote", "quoted", "too"}),
        (
            {"headers": True},
            {"old", "older", "ann", "other", "wrote", "quoted", "too", "from", "someone", "subject", "engines", "more", "lines"},
        ),
        ({"footers": True}, {"old", "older", "ann", "other", "wrote", "quoted", "too", "signature", "here"}),
        ({"quotes": False, "footers": True}, {"signature", "here"}),
    ],
)
def test_quoting_headers_and_footers_of_mail(spark, params, gone):
    words = ["from", "someone", "subject", "engines", "more", "lines", "ann", "other", "wrote", "old", "older", "my", "own", "quoted",
             "too", "signature", "here"]  # fmt: skip
    actual = set(_terms(spark, [MAIL], {"clean": {"html": False, **params}}, "tokens")[0])
    assert {word for word in words if word not in actual} == gone


@pytest.mark.parametrize("form", ["NFC", "NFKC", "NFD", "NFKD"])
def test_unicode_forms_are_pythons(spark, form):
    texts = ["ﬁne ① Å A\u030a ½ ｆｕｌｌ", "caf\u0065\u0301"]
    words = {"pattern": r"\S+", "min_length": 1, "lowercase": False}
    actual = _terms(spark, texts, {"unicode": {"form": form}}, {"tokens": words})
    assert actual == [unicodedata.normalize(form, text).split() for text in texts]


def test_accents_can_be_stripped(spark):
    assert _terms(spark, ["Café naïve Ångström straße"], {"unicode": {"accents": "strip"}}, "tokens") == [
        ["cafe", "naive", "angstrom", "straße"]
    ]


def test_sentences_end_where_they_end_and_no_ngram_reaches_over(spark):
    text = 'Dr. Smith paid 3.50 dollars. He left! "Why?" No one knows…\n\nlast part without a mark'
    stages = ["sentences", {"tokens": {"min_length": 1}}, {"ngrams": {"from": 2, "to": 2}}]
    assert _terms(spark, [text], *stages) == [
        ["dr smith", "smith paid", "paid 3", "3 50", "50 dollars", "he left", "no one", "one knows", "last part", "part without",
         "without a", "a mark"]
    ]  # fmt: skip
    assert _terms(spark, [text], {"sentences": {"first": 2}}, "tokens") == [["dr", "smith", "paid", "50", "dollars", "he", "left"]]


def test_stop_words_of_a_language_with_more_and_fewer(spark):
    assert _terms(spark, ["I don't like the green ham"], "tokens", "stopwords") == [["like", "green", "ham"]]
    german = {"language": "german", "words": ["Haus"], "keep": ["nicht"]}
    assert _terms(spark, ["Das Haus ist nicht grün"], "tokens", {"stopwords": german}) == [["nicht", "grün"]]


def test_stems_are_snowballs(spark):
    # Source: the vocabulary and output samples at snowballstem.org/algorithms/english/stemmer.html
    words = ["consign", "consigned", "consigning", "consignment", "consistently", "knightly", "knocking", "generously"]
    stems = ["consign", "consign", "consign", "consign", "consist", "knight", "knock", "generous"]
    assert _terms(spark, [" ".join(words), "", None], "tokens", "stem") == [stems, [], []]
    assert _terms(spark, ["Häuser laufend"], "tokens", {"stem": {"language": "german"}}) == [["haus", "laufend"]]


def test_what_the_fit_has_not_seen_has_no_slot_and_null_is_empty(spark, df):
    model = _fit(df, _group("tokens", {"tfidf": {"min_df": 1}}))
    other = spark.createDataFrame([(0, None), (1, "unheard of words"), (2, "grain")], "id INT, remarks STRING")
    actual, names = _matrix(model, other)
    assert not actual[0].any()
    assert [names[slot] for slot in actual[1].nonzero()[0]] == ["remarks=of"]
    assert actual[2][names.index("remarks=grain")] == 1.0


def test_a_column_without_any_term_is_named(spark, df):
    with pytest.raises(StepError, match=r"column 'remarks' has no term that is in at least 6 and at most 1 \(a share\)"):
        _fit(df, _group("tokens", {"tfidf": {"min_df": 6}}))


def test_texts_stand_behind_numbers_and_trees_see_the_common_terms(spark, df, monkeypatch):
    monkeypatch.setattr("tidemill.features.text.fit.TREE_TERMS", 2)
    model = _fit(df, _group("tokens", {"tfidf": {"min_df": 1}}), ("linear", "tree", "positive"), numeric=Numeric(columns=["id"]))
    assert slot_names(model, "linear")[:3] == ["id", "remarks=the", "remarks=and"]
    assert slot_names(model, "tree") == ["id", "remarks=the", "remarks=and"]
    out = model.transform(df)
    assert sorted(out.columns) == ["features_linear", "features_positive", "features_tree", "id", "remarks"]
    rows = out.orderBy("id").select("features_positive", "features_tree").collect()
    assert [row[0][0] for row in rows] == pytest.approx(np.arange(7) / 6)
    assert all(min(row[0].toArray()) >= 0 for row in rows)
    assert rows[0][1].toArray()[1] == rows[0][0].toArray()[1]
    # MLlib keeps a name for each slot; with a vocabulary of words they would weigh more than the data.
    assert out.schema["features_linear"].metadata == {}


def test_word2vec_is_the_mean_of_its_words_and_the_same_each_time(spark, df):
    group = _group("tokens", {"word2vec": {"size": 5, "min_count": 1}})
    first, again = (_fit(df, group).transform(df).orderBy("id").select("features_linear").collect() for _ in range(2))
    assert first == again
    model = _fit(df, group)
    assert slot_names(model, "linear") == [f"remarks.{place}" for place in range(5)]
    word2vec = next(stage for stage in model.stages if hasattr(stage, "getVectors"))
    vectors = {row["word"]: row["vector"].toArray() for row in word2vec.getVectors().collect()}
    words = CountVectorizer().build_analyzer()(TEXTS[1])
    np.testing.assert_allclose(first[1][0].toArray(), np.mean([vectors[word] for word in words], axis=0), rtol=1e-6)
    assert not first[5][0].toArray().any()


def test_an_embedding_of_a_package_is_asked_batch_by_batch(spark, df):
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("embedders.py")))
    group = _group({"embedding": {"python": "embedders.Lengths", "params": {"scale": 2}}})
    model = _fit(df, group)
    rows = model.transform(df).orderBy("id").select("features_linear").collect()
    expected = [[2.0 * len(text or ""), 2.0 * (text or "").count(" ")] for text in TEXTS]
    assert [list(row[0].toArray()) for row in rows] == expected
    assert slot_names(model, "linear") == ["remarks.0", "remarks.1"]
    with pytest.raises(StepError, match=r"flat gave an array of shape \(1,\) for 1 texts, expected \(1, n\)"):
        _fit(df, _group({"embedding": {"python": "embedders.flat"}}))


@pytest.fixture
def saved(df, tmp_path):
    """A model of every kind of text stage, and its own rows and names; it lies in ``model`` beside the rows."""
    stages = ["clean", {"unicode": {"accents": "strip"}}, "sentences", "tokens", "stopwords", "stem", "ngrams", {"tfidf": {"min_df": 1}}]
    model = _fit(df, _group(*stages), ("linear", "tree"))
    model.write().overwrite().save(str(tmp_path / "model"))
    df.write.parquet(str(tmp_path / "rows"))
    return _vectors(model, df), slot_names(model, "linear")


def _vectors(model, rows):
    actual = model.transform(rows)
    assert internal_name("text", "remarks") not in actual.columns
    return [[row[0].indices.tolist(), row[0].values.tolist()] for row in actual.orderBy("id").select("features_linear").collect()]


def test_a_saved_model_gives_the_same_where_it_is_loaded(df, saved, tmp_path):
    rows, names = saved
    assert any(values for _, values in rows)
    loaded = PipelineModel.load(str(tmp_path / "model"))
    assert (_vectors(loaded, df), slot_names(loaded, "linear")) == (rows, names)


@pytest.mark.slow
def test_a_saved_model_gives_the_same_in_another_process(saved, tmp_path):
    code = (
        "import sys, json\n"
        "from tidemill.runtime.session import get_spark\n"
        "from pyspark.ml import PipelineModel\n"
        "from tidemill.features import slot_names\n"
        "spark = get_spark('other', {'spark.master': 'local[1]'})\n"
        "model = PipelineModel.load(sys.argv[1] + '/model')\n"
        "rows = model.transform(spark.read.parquet(sys.argv[1] + '/rows')).orderBy('id').select('features_linear').collect()\n"
        "print(json.dumps([[[row[0].indices.tolist(), row[0].values.tolist()] for row in rows], slot_names(model, 'linear')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    rows, names = json.loads(done.stdout.splitlines()[-1])
    assert (rows, names) == saved
