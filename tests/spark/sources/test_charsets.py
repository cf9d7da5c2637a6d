"""Text in any encoding that Python and Java both name: header, rows, quotes, inference, and what the schema lacks."""

import json

from tests.tiers import parametrize_first

SAMPLES = {
    "windows-1252": "n;Preis €;„ü“",
    "Shift_JIS": "番号;能ソ表;〜ｱ",
    "UTF-16BE": "n;ž;š",
    "GB18030": "号;中文𠀀;€",
    "cp949": "번호;똠;펲",
    "ISO-2022-JP": "番;名;前",
    "cp037": "n;a!b;x",
}


@parametrize_first("encoding", SAMPLES, 3)
def test_header_rows_quotes_and_rescued_fields(read, encoding: str) -> None:
    number, name, value = SAMPLES[encoding].split(";")
    column = name.replace(" ", "_")
    text = f'{number};{name}\r\n1;{value}\r\n2;"a;{value}"\r\n'
    found = read("csv", {"a.csv": text.encode(encoding)}, header=True, sep=";", encoding=encoding)
    assert found.schema.simpleString() == f"struct<{number}:int,{column}:string>"
    assert sorted((row[number], row[column]) for row in found.good) == [(1, value), (2, f"a;{value}")]
    assert found.counts == {"a.csv": (2, 2, 0)}


def test_other_formats_and_ways(read) -> None:
    euro = {"encoding": "windows-1252"}
    rescued = read("csv", {"a.csv": "k,é\n1,ü€\n".encode("cp1252")}, "k INT", header=True, **euro)
    assert [json.loads(row["_rescued"]) for row in rescued.good] == [{"é": "ü€"}]
    several = read("csv", {"b.csv": 'k,é\n1,"a\nü"\n2,b\n'.encode("cp1252")}, "k INT, `é` STRING", header=True, multiLine=True, **euro)
    assert {row["é"] for row in several.good} >= {"a\nü", "b"}
    # 0x81 is no character of windows-1252; in UTF-16 half a surrogate pair is none.
    assert read("text", {"c.txt": b"\x80\n\x81\n"}, "value STRING", **euro).refused == {"\ufffd": ["invalid_bytes"]}
    japanese = read("json", {"d.json": '{"k":1,"名":"能ソ表"}\n'.encode("shift_jis")}, "k INT, `名` STRING", encoding="Shift_JIS")
    assert [row["名"] for row in japanese.good if row["k"]] == ["能ソ表"]


def test_the_separator_that_a_file_names(read) -> None:
    files = {
        "a.csv": b"sep=;\r\na;b\r\n1;x,y\r\n2;\r\n",
        "b.csv": b"a,b\n3,z\n",
        "c.csv": "\ufeffsep=\t\na\tb\n4\tw\n".encode("utf-16-le"),
    }
    found = read("csv", files, header=True)
    assert found.schema.simpleString() == "struct<a:int,b:string>"
    assert sorted((row["a"], row["b"]) for row in found.good) == [(1, "x,y"), (2, None), (3, "z"), (4, "w")]
    assert not found.refused
    assert found.counts == {"a.csv": (2, 2, 0), "b.csv": (1, 1, 0), "c.csv": (1, 1, 0)}
