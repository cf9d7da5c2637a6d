import os
import sys

import pytest

from tidemill.runtime.session import _utf_8_names


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Java does not go by these")
@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ({"LC_ALL": "C"}, "C.UTF-8"),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, "C.UTF-8"),
        ({"LC_CTYPE": "de_DE.ISO-8859-1"}, "C.UTF-8"),
        ({}, "C.UTF-8"),
        ({"LANG": "de_DE.utf8"}, None),
        ({"LC_ALL": "de_DE.UTF-8"}, "de_DE.UTF-8"),
        ({"LC_CTYPE": "C.UTF-8"}, None),
    ],
)
def test_java_starts_in_a_utf_8_locale(monkeypatch: pytest.MonkeyPatch, locale: dict[str, str], expected: str | None) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    with _utf_8_names():
        assert os.environ.get("LC_ALL") == expected
    assert os.environ.get("LC_ALL") == locale.get("LC_ALL")
