from __future__ import annotations

import json
import logging
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill import redaction
from tidemill.errors import UsageError
from tidemill.redaction import Redactor, redact, register_secret


def redactor(*secrets: str) -> Redactor:
    made = Redactor()
    for secret in secrets:
        made.register(secret)
    return made


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)


ODD = "p@ss w/ö\"rd\\\n&<x>+%41'"


@pytest.mark.parametrize(
    "written",
    [
        ODD, quote(ODD), quote(ODD, safe=""), quote(ODD, safe="/@:+&'"), quote_plus(ODD), quote(ODD).lower(), quote(quote(ODD)),
        json.dumps(ODD)[1:-1], json.dumps(ODD, ensure_ascii=False)[1:-1], json.dumps(json.dumps(ODD))[3:-3],
        escape(ODD), escape(ODD, {'"': "&quot;", "'": "&apos;"}),
        repr(ODD)[1:-1],
    ],
)  # fmt: skip
def test_a_secret_is_found_however_it_is_escaped(written: str) -> None:
    assert redactor(ODD).redact(f"at <{written}> it failed") == "at <***> it failed"


@given(
    st.text(min_size=8, max_size=30).filter(lambda text: len(text.strip()) > 0 and len(text.splitlines()) == 1),
    st.sampled_from([str, quote, quote_plus, lambda text: json.dumps(text)[1:-1]]),
)
def test_no_long_secret_is_left_in_any_text(secret: str, write) -> None:
    assert write(secret) not in redactor(secret).redact(f"x{write(secret)}y{write(secret)}").replace("***", "\0")


def test_short_secrets_are_found_between_words_and_long_ones_inside() -> None:
    assert redactor("ab1").redact("ab1 at /ab1/x_ab1.db, not grab1s") == "*** at /***/x_***.db, not grab1s"
    assert redactor("CANARY123").redact("xCANARY123y") == "x***y"
    assert redactor("", "  ").redact("nothing is  changed") == "nothing is  changed"


def test_the_lines_of_a_key_are_secrets_too() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"
    assert redactor(key).redact("bad line hkiG9w0BAQEFAASC in it") == "bad line *** in it"


def test_a_secret_that_holds_another_is_taken_out_whole() -> None:
    assert redactor("hunter22", "hunter22-extended").redact("hunter22-extended") == "***"


def test_errors_and_logs_hold_no_secret(fresh: None, caplog: pytest.LogCaptureFixture) -> None:
    register_secret("CANARY123")
    assert str(UsageError("x CANARY123 y")) == "x *** y"
    # As PySpark's formatter, which may be that of every handler, it asks the exception itself.
    asking = logging.Formatter()
    asking.formatException = lambda exc_info: repr(exc_info[1])
    caplog.handler.setFormatter(asking)
    try:
        raise ValueError("CANARY123")
    except ValueError:
        logging.getLogger("py4j.test").exception("sent %s", "CANARY123")
    assert "CANARY123" not in caplog.text
    assert "sent ***" in caplog.text and "ValueError: ***" in caplog.text
    assert any(record.exc_info is None for record in caplog.records)
    assert redact("CANARY123") == "***"
