"""Which jars a spec needs, under which names they lie, and what is said of unknown ones."""

import pytest

from tidemill.errors import UsageError
from tidemill.runtime import spark_home
from tidemill.runtime import spark_home as jars
from tidemill.sources.kinds import needed_connectors
from tidemill.spec.models import Source


def test_only_what_is_missing_is_fetched(tmp_path):
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "org.postgresql_postgresql-42.7.7.jar").touch()
    assert jars.missing_packages(tmp_path, ["postgresql", "sqlite"]) == ["org.xerial:sqlite-jdbc:3.50.3.0"]
    assert len(jars.missing_packages(tmp_path, ["delta", "kafka"])) == 6
    with pytest.raises(UsageError, match="did you mean 'sqlite'"):
        jars.missing_packages(tmp_path, ["sqllite"])


def test_sources_tell_their_connectors():
    declared = [
        {"format": "csv", "path": "a.csv"},
        {"format": "jdbc", "url": "jdbc:postgresql://h/db", "table": "t"},
        {"format": "jdbc", "url": "jdbc:sqlite:a.db", "table": "t"},
        {"format": "jdbc", "url": "jdbc:mysql://h/db", "table": "t"},
        {"format": "kafka", "url": "h:9092", "table": "t"},
        {"format": "jdbc", "url": "jdbc:sqlite:b.db", "table": "t"},
    ]
    assert needed_connectors([Source.model_validate(source) for source in declared]) == ("postgresql", "sqlite", "kafka")


def test_unknown_words_after_with(capsys):
    assert spark_home.main(["--with", "postgres"]) == 2
    assert "did you mean 'postgresql'" in capsys.readouterr().err
