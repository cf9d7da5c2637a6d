from datetime import UTC, datetime

from tidemill.lake.staging import StagedRows
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import FileCount, Records
from tidemill.steps.ingest.files import ReadResult, _note_empty_files
from tidemill.steps.ingest.staged_records import StagedRecords


def test_files_that_give_no_record_are_named() -> None:
    sizes = {"/in/lost.csv": 20, "/in/header.csv": 5, "/in/good.csv": 9, "/in/bad.csv": 7, "/in/empty.csv": 0}
    files = [SourceFile(path, size, datetime.now(UTC)) for path, size in sizes.items()]
    counts = {"/in/header.csv": FileCount(0, 0, 0, 0), "/in/good.csv": FileCount(2, 1, 1, 0)}
    staged = StagedRecords(StagedRows(None, None), counts, {})
    found = ReadResult(staged, None, Records(None), {"/in/bad.csv": "it cannot be read"})
    assert _note_empty_files(files, found) == ("no record in /in/lost.csv (20 bytes), /in/header.csv (5 bytes)",)
    assert _note_empty_files(files[2:], found) == ()
