"""XML files: one record per element of the row tag. Imports no Spark itself; the reader does."""

from __future__ import annotations

from tidemill.errors import did_you_mean
from tidemill.spec.models.source_kinds import UNRESOLVED, DeclaredSource, Faults, FileKind

ROW_TAG = "rowTag"


class Xml(FileKind):
    """XML files; the option ``rowTag`` names the elements that are records."""

    reader = "tidemill.sources.files.xml.reader:XmlFiles"
    gives_raw_text = True
    is_text = True
    tells_columns_by_record = True
    option_names = (
        *(ROW_TAG, "encoding", "attributePrefix", "valueTag", "nullValue", "maxRecordBytes"),
        *("ignoreNamespace", "ignoreSurroundingSpaces", "excludeAttribute"),
    )

    def faults(self, source: DeclaredSource) -> Faults:
        """Yield what is wrong with the declaration: the row tag has to be given."""
        yield from super().faults(source)
        spelling, value = source.options.get(ROW_TAG.lower(), (ROW_TAG, None))
        if ROW_TAG.lower() not in source.options:
            near = next((name for name, _ in source.options.values() if did_you_mean(name, [ROW_TAG])), None)
            hint = f" (did you mean it by {near!r}?)" if near else ""
            yield ("options", ROW_TAG), f"missing{hint}; name the element that is a record, such as `rowTag: book`"
        elif value is not UNRESOLVED and not (value if isinstance(value, str) else "").strip("<> "):
            yield ("options", spelling), "expected the name of the element that is a record, such as `book`"
