from __future__ import annotations

from pathlib import Path

import pytest

from tidemill import redaction
from tidemill.errors import SourceError, UsageError
from tidemill.redaction import Redactor, redact
from tidemill.runtime.secrets import reveal
from tidemill.sources.files.listing import list_source_files
from tidemill.sources.jdbc.connection import JdbcConnection
from tidemill.sources.kafka.topics import parse_topics
from tidemill.sources.options import reveal_path
from tidemill.spec.models import Source

CANARY = "CANARYq7Zx91"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    for name, value in {"A_B": CANARY, "A_SHORT": "x1", "A_EMPTY": "", "DB_URL": f"jdbc:postgresql://{CANARY}:p@host/db"}.items():
        monkeypatch.setenv(f"TIDEMILL_SECRET_{name}", value)


def test_a_secret_is_registered_when_it_is_looked_up() -> None:
    assert redact(f"before {CANARY}") == f"before {CANARY}"
    assert reveal("x${secret:a/b}y${secret:a/empty}") == f"x{CANARY}y"
    assert redact(f"after {CANARY}") == "after ***"
    with pytest.raises(UsageError, match="the secret a/none is not known here; export it as TIDEMILL_SECRET_A_NONE"):
        reveal("${secret:a/none}")


def test_a_short_secret_is_masked_with_the_letters_it_stands_among() -> None:
    assert reveal("jdbc:sqlite:/d/db${secret:a/short}z.sqlite") == "jdbc:sqlite:/d/dbx1z.sqlite"
    assert redact("no file /d/dbx1z.sqlite, login x1, max1") == "no file /d/***.sqlite, login ***, max1"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("jdbc:sqlite:/d/db_${secret:a/b}.sqlite", "jdbc:sqlite:/d/db_${secret:a/b}.sqlite/t"),
        ("jdbc:postgresql://${secret:a/b}:5432/${secret:a/b}?user=u&password=${secret:a/b}", "jdbc:postgresql://${secret:a/b}:5432/${secret:a/b}/t"),
        ("jdbc:postgresql://${secret:a/b}:${secret:a/short}@h/db", "jdbc:postgresql://h/db/t"),
        ("${secret:db/url}", "${secret:db/url}/t"),
        ("jdbc:sqlite:/d/${secret:a/short}.db", "jdbc:sqlite:/d/${secret:a/short}.db/t"),
    ],
)  # fmt: skip
def test_the_place_of_a_database_holds_no_secret(url: str, text: str) -> None:
    place = JdbcConnection.of(Source(format="jdbc", url=url, table="t"))
    assert place.text == text
    assert "${secret:" not in place.url


def test_options_and_brokers_of_kafka_hold_secrets() -> None:
    options = {"kafka.sasl.jaas.config": 'x.Login required password="${secret:a/b}";'}
    topics = parse_topics(Source(format="kafka", url="${secret:a/b}:9092", table="t", options=options))
    assert (topics.brokers, CANARY in topics.client["sasl.jaas.config"]) == (f"{CANARY}:9092", True)
    assert topics.place == "kafka://***:9092/t"


def test_files_with_secrets_in_their_paths_are_known_by_masked_names(tmp_path: Path) -> None:
    for folder in (f"d_{CANARY}", "x1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("x")

    def names(path: str) -> list[str]:
        return [file.name for file in list_source_files(Source(format="csv", path=f"{tmp_path}/{path}"))]

    assert names("d_${secret:a/b}/*.csv") == [f"{tmp_path}/d_***/a.csv"]
    assert names("${secret:a/short}") == [f"{tmp_path}/***/a.csv"]
    assert names("x1") == [f"{tmp_path}/x1/a.csv"]  # the same file has the same name whatever else was looked up
    with pytest.raises(SourceError, match="no file at") as error:
        names("e_${secret:a/b}/*.csv")
    assert CANARY not in str(error.value)


def test_a_secret_in_a_glob_means_its_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_SECRET_A_STAR", "*secret*")
    for name in ("*secret*.csv", "no secret at all.csv"):
        (tmp_path / name).write_text("x")
    files = list_source_files(Source(format="csv", path=f"{tmp_path}/${{secret:a/star}}.{{csv,json}}"))
    assert [file.path for file in files] == [f"{tmp_path}/*secret*.csv"]
    with pytest.raises(SourceError, match="begins with a secret that is no absolute path"):
        reveal_path("${secret:a/b}/x.csv")
