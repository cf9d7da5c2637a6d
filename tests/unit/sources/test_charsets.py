import pytest

from tidemill.errors import UsageError
from tidemill.sources.files.encodings import TextForm, detect_text_form, find_charset, find_separator_line


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("windows-1252", ("cp1252", "windows-1252")),
        ("Cp1252", ("cp1252", "windows-1252")),
        ("latin1", ("iso8859-1", "ISO-8859-1")),
        ("latin-1", ("iso8859-1", "ISO-8859-1")),
        ("ISO_8859-15", ("iso8859-15", "ISO-8859-15")),
        ("utf8", ("utf-8", "UTF-8")),
        ("utf-8-sig", ("utf-8", "UTF-8")),
        ("UTF-16LE", ("utf-16-le", "UTF-16LE")),
        ("Shift_JIS", ("shift_jis", "Shift_JIS")),
        ("sjis", ("shift_jis", "Shift_JIS")),
        ("MS932", ("cp932", "windows-31j")),
        ("gb18030", ("gb18030", "GB18030")),
        ("mac_roman", ("mac-roman", "x-MacRoman")),
        ("x-MacRoman", ("mac-roman", "x-MacRoman")),
        # Java's own Cp949 is another encoding than Python's, which is that of Windows.
        ("cp949", ("cp949", "x-windows-949")),
        ("cp037", ("cp037", "IBM037")),
        ("IBM01140", ("cp1140", "IBM01140")),
    ],
)
def test_names_of_python_and_java(name: str, expected: tuple[str, str]) -> None:
    assert find_charset(name) == expected


@pytest.mark.parametrize(
    ("name", "message"), [("klingon", "klingon is not known"), ("kz1048", "Java has no kz1048"), ("rot13", "no rot13")]
)
def test_what_cannot_be_read_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_charset(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sep=;\r\na;b\n", ("sep=;", ";")),
        ('"sep=|"\na|b\n', ('"sep=|"', "|")),
        ("SEP=,", ("SEP=,", ",")),
        ("sep=\t\na\tb\n", ("sep=\t", "\t")),
        ("sep=\\t\na\tb\n", ("sep=\\t", "\t")),
        ("sep=;;\n", None),
        ("sep=\n", None),
        ("separator;b\n", None),
        ("a;b\nsep=;\n", None),
    ],
)
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16LE", "windows-1252"])
def test_the_line_that_names_the_separator(text: str, expected: tuple[str, str] | None, encoding: str) -> None:
    start = ("\ufeff" * (encoding != "windows-1252") + text).encode(encoding)
    form = detect_text_form(start, {"encoding": encoding})
    assert find_separator_line(start, form) == expected


def test_ends_of_lines() -> None:
    found = [detect_text_form(text.encode("cp037"), {"encoding": "cp037"}).end_bytes for text in ("a\nb\n", "a\x85b\x85", "a\rb\r")]
    assert found == [b"\x25", b"\x15", b"\x0d"]
    assert detect_text_form(b"a\rb", {}) == TextForm("UTF-8", "\r")
    assert detect_text_form(b"a\x85b", {"encoding": "windows-1252"}).line_end == "\n"
