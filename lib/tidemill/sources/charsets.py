"""Encodings by name: as Python spells them, which reads headers, and as Java does, which reads records."""

from __future__ import annotations

import codecs
from functools import cache
from typing import NamedTuple

from tidemill.errors import UsageError

_IBM = ("037", 273, 424, 437, 500, 775, 850, 852, 855, 857, 860, 861, 862, 863, 864, 865, 866, 869, 1026)
_OTHERS = {
    **{"ascii": "US-ASCII", "utf-8": "UTF-8", "utf-8-sig": "UTF-8", "koi8-r": "KOI8-R", "koi8-u": "KOI8-U", "tis-620": "TIS-620"},
    **{"utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"},
    **{"utf-32": "UTF-32", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE"},
    # Chinese, Japanese, Korean.
    **{"big5": "Big5", "big5hkscs": "Big5-HKSCS", "cp950": "x-windows-950", "gb2312": "GB2312", "gbk": "GBK", "gb18030": "GB18030"},
    **{"shift_jis": "Shift_JIS", "cp932": "windows-31j", "euc_jp": "EUC-JP", "iso2022_jp": "ISO-2022-JP"},
    **{"iso2022_jp_2": "ISO-2022-JP-2", "euc_kr": "EUC-KR", "cp949": "x-windows-949", "johab": "x-Johab", "iso2022_kr": "ISO-2022-KR"},
    # DOS, OS/2, mainframes.
    **{
        f"cp{page}": f"IBM{page}"
        for page in (
            "037",
            *[
                "273",
                "424",
                "437",
                "500",
                "775",
                "850",
                "852",
                "855",
                "857",
                "860",
                "861",
                "862",
                "863",
                "864",
                "865",
                "866",
                "869",
                "1026",
            ],
        )
    },
    **{f"cp{page}": f"x-IBM{page}" for page in (737, 856, 875, 1006)},
    **{"cp858": "IBM00858", "cp1140": "IBM01140", "cp874": "x-windows-874"},
    **{f"mac-{name.lower()}": f"x-Mac{name}" for name in ["Roman", "Croatian", "Cyrillic", "Greek", "Iceland", "Turkish", "Arabic"]},
    "mac-latin2": "x-MacCentralEurope",
    "iso8859-11": "x-iso-8859-11",
}
_JAVA = {
    **{f"cp{page}": f"windows-{page}" for page in range(1250, 1259)},
    **{f"iso8859-{part}": f"ISO-8859-{part}" for part in (*range(1, 10), 13, 15, 16)},
    **_OTHERS,
}
"""The name that Java gives to a codec of Python's, for those that both have."""

_SPELLED_BY_JAVA = {java.lower(): codec for codec, java in _JAVA.items() if codec != "utf-8-sig"} | {"ms932": "cp932", "ms949": "cp949"}


class Charset(NamedTuple):
    """An encoding: the name of Python's codec, and Java's name, in which the two may differ in single characters."""

    codec: str
    java: str


@cache
def charset(name: str) -> Charset:
    """Return the encoding of this name, spelled as Python or Java may spell it.

    Raises:
        UsageError: none of the two knows it, or only one does.
    """
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        codec = _SPELLED_BY_JAVA.get(name.lower(), "")
        if not codec:
            raise UsageError(
                f"options.encoding: {name} is not known; write one such as UTF-8, UTF-16LE, ISO-8859-1, windows-1252, Shift_JIS, GB18030"
            ) from None
    if codec not in _JAVA:
        raise UsageError(f"options.encoding: Spark's Java has no {name}; recode the files, such as by `iconv -f {name} -t UTF-8`")
    return Charset("utf-8" if codec == "utf-8-sig" else codec, _JAVA[codec])
