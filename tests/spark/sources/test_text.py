"""Text by line or by file, tab-separated values, and files of any kind."""

import bz2
import gzip


def test_each_line_is_a_record_and_empty_ones_too(read) -> None:
    files = {
        "a.txt": b"\xef\xbb\xbffirst\r\n\nthird\xff\nnul\0\n last ",
        "b.txt.gz": gzip.compress(b"packed\n"),
        "c.txt": "wide\u017e\n".encode("utf-16"),
        "d.txt.bz2": bz2.compress(b"packed too"),
    }
    found = read("text", files)
    assert sorted(row["value"] for row in found.good) == ["", " last ", "first", "packed", "packed too", "wide\u017e"]
    assert found.refused == {"third\ufffd": ["invalid_bytes"], "nul\0": ["nul"]}
    assert found.counts == {"a.txt": (5, 3, 2), "b.txt.gz": (1, 1, 0), "c.txt": (1, 1, 0), "d.txt.bz2": (1, 1, 0)}
    whole = read("text", {"a.txt": b"one\ntwo\n"}, wholetext=True)
    assert "one\ntwo\n".rstrip() in [row["value"].rstrip() for row in whole.good]


def test_tabs_part_the_fields(read) -> None:
    found = read("tsv", {"a.tsv": b'id\tname\n1\ta,b\n2\t"x\ty"\nx\ty\n'}, "id INT, name STRING", header=True)
    assert sorted((row["id"], row["name"]) for row in found.good) == [(1, "a,b"), (2, "x\ty")]
    assert found.refused == {"x\ty": ["cast:id"]}


def test_a_file_is_a_record(read, tmp_path) -> None:
    files = {"a b#%20.bin": b"\x00\x01", "c.bin": b"xyz"}
    found = read("binaryFile", files)
    assert {row["_source_file"].rsplit("/", 1)[1]: (bytes(row["content"]), row["length"]) for row in found.good} == {
        "a b#%20.bin": (b"\x00\x01", 2),
        "c.bin": (b"xyz", 3),
    }


def test_decimals_are_not_rounded(read) -> None:
    data = b"id,price\n1,1.25\n2,1.2500\n3,1.255\n4,123456789\n5,\n6,-0.5\n"
    found = read("csv", {"a.csv": data}, "id INT, price DECIMAL(6,2)", header=True)
    assert sorted((row["id"], str(row["price"])) for row in found.good) == [(1, "1.25"), (2, "1.25"), (5, "None"), (6, "-0.50")]
    assert found.refused == {"3,1.255": ["cast:price"], "4,123456789": ["cast:price"]}
