"""The options of an XML source, by the names that Spark's own reader gives them."""

from __future__ import annotations

import re

from tidemill.errors import UsageError
from tidemill.sources.charsets import charset
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.record_limit import LONGEST_LINE, OPTION, longest_record
from tidemill.sources.xml_batches import XmlForm
from tidemill.sources.xml_bytes import known_encoding
from tidemill.sources.xml_values import XmlNames
from tidemill.spec.models import Source

ROW_TAG = "rowTag"
_SAME = {"UTF8": "UTF-8", "LATIN1": "ISO-8859-1"}
OPTIONS = (
    *(ROW_TAG, "encoding", "attributePrefix", "valueTag", "nullValue", OPTION),
    *("ignoreNamespace", "ignoreSurroundingSpaces", "excludeAttribute"),
)
_TAG = re.compile(r"""[^\s<>/="'!?&;]+""")


def form_of(source: Source) -> XmlForm:
    """Return how the files of a source are to be read.

    Raises:
        UsageError: an option is missing, unknown or wrong.
    """
    options = checked_options(source, OPTIONS)
    row_tag = options.get(ROW_TAG, "").strip().removeprefix("<").removesuffix(">")
    if not _TAG.fullmatch(row_tag):
        found = f", found {options[ROW_TAG]!r}" if ROW_TAG in options else ""
        raise UsageError(f"options.{ROW_TAG}: expected the name of the element that is a record, such as `book`{found}")
    encoding = options.get("encoding")
    if encoding and not known_encoding(encoding):
        encoding = charset(encoding).codec
    names = XmlNames(
        attribute_prefix=options.get("attributePrefix", XmlNames.attribute_prefix),
        value_tag=options.get("valueTag", XmlNames.value_tag),
        null_value=options.get("nullValue"),
        keeps_spaces=options.get("ignoreSurroundingSpaces") == "false",
        drops_attributes=is_on(options, "excludeAttribute"),
        drops_prefixes=is_on(options, "ignoreNamespace"),
    )
    return XmlForm(
        row_tag.rpartition(":")[2] if names.drops_prefixes else row_tag,
        names,
        _SAME.get(encoding.upper(), encoding.upper()) if encoding else None,
        longest_record(options, LONGEST_LINE),
    )
