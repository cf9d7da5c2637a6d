"""The vectors of a fold in files: written by Spark in pieces, put together once an executor, and mapped into memory by every fit there."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from tidemill.features.text.arrow import sparse_parts, vector_size
from tidemill.learners.base import Layout, Matrix
from tidemill.runtime.locks import hold_lock

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


TRAIN, HELD_OUT = "train", "held_out"
# A matrix that is fuller than this is no larger, and faster, with its zeros.
_SPARSE_SHARE = 0.3
_OF = "of.txt"
_REPORT = "piece STRING, rows BIGINT, bytes BIGINT, slots ARRAY<BIGINT>"


@dataclass(frozen=True)
class Copy:
    """Vectors in files.

    ``folder`` holds the ``pieces`` and is seen by all executors; ``name`` is the copy's own; ``n_bytes`` is what its values take,
    ``slots`` how many places the vectors of each of ``encodings`` have.
    """

    folder: str
    name: str
    encodings: tuple[str, ...]
    pieces: tuple[str, ...]
    n_bytes: int
    slots: tuple[int, ...] = ()

    def slots_of(self, encoding: str) -> int:
        """Return how many places the vectors of ``encoding`` have."""
        return self.slots[self.encodings.index(encoding)]

    def remove(self) -> None:
        """Delete the pieces; what executors made of them goes with the next copy that they make, and at the latest with them."""
        shutil.rmtree(self.folder, ignore_errors=True)


class TooLarge(Exception):
    """The vectors take more room than a copy may have; ``n_bytes`` is what was seen of them."""

    def __init__(self, n_bytes: int) -> None:
        """Keep the measure."""
        self.n_bytes = n_bytes
        super().__init__(f"the vectors take {n_bytes:,} bytes, more than one copy of them may have for tasks; write `engine: spark`")


def write_copy(vectors: DataFrame, folder: str, encodings: Sequence[str], most_bytes: int) -> Copy:
    """Write the vectors to ``folder``, a piece a partition, in one pass.

    Args:
        vectors: ``order`` BIGINT, in which the rows are to stand; ``is_held_out`` BOOLEAN; ``label`` and ``weight`` DOUBLE;
            ``features_<encoding>``.
        folder: a new one, on a file system that this process and all executors see.
        encodings: those to keep.
        most_bytes: what the copy may take.

    Raises:
        TooLarge: it takes more.
    """
    name = f"copy-{uuid.uuid4().hex}"
    place = f"{folder}/{name}"
    Path(place).mkdir(parents=True)
    columns = ["order", "is_held_out", "label", "weight", *(f"features_{encoding}" for encoding in encodings)]

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _write_piece(batches, place, encodings, most_bytes)

    try:
        found = vectors.select(columns).mapInArrow(write, _REPORT).toArrow().to_pylist()
        n_bytes = sum(row["bytes"] for row in found)
        if n_bytes > most_bytes:
            raise TooLarge(n_bytes)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    pieces = tuple(sorted(row["piece"] for row in found if row["rows"]))
    slots = tuple(max((row["slots"][at] for row in found if row["rows"]), default=0) for at in range(len(encodings)))
    return Copy(place, name, tuple(encodings), pieces, n_bytes, slots)


def _write_piece(batches: Iterable[pa.RecordBatch], place: str, encodings: Sequence[str], most: int) -> Iterator[pa.RecordBatch]:
    """Write one partition's rows, as matrices stored by rows; give up where they alone are too many."""
    found: dict[str, list[np.ndarray]] = {}
    rows = n_bytes = 0
    for batch in batches:
        if not len(batch):
            continue
        arrays = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in ("order", "is_held_out", "label", "weight")}
        for encoding in encodings:
            vectors = batch.column(f"features_{encoding}")
            offsets, indices, values = sparse_parts(vectors)
            arrays |= {f"{encoding}.lengths": np.diff(offsets), f"{encoding}.indices": indices, f"{encoding}.values": values}
            arrays[f"{encoding}.width"] = np.array([vector_size(vectors)])
        for name, array in arrays.items():
            found.setdefault(name, []).append(array)
        rows += len(batch)
        n_bytes += sum(array.nbytes for array in arrays.values())
        if n_bytes > most:
            break
    piece = ""
    if rows and n_bytes <= most:
        piece = f"{uuid.uuid4().hex}.npz"
        whole = {name: np.concatenate(arrays) for name, arrays in found.items()}
        np.savez(f"{place}/{piece}", allow_pickle=False, **whole)
    slots = [int(max((each[0] for each in found.get(f"{encoding}.width", [])), default=0)) for encoding in encodings]
    yield pa.RecordBatch.from_pydict({"piece": [piece], "rows": [rows], "bytes": [n_bytes], "slots": [slots]})


@dataclass(frozen=True)
class Part:
    """Rows of a copy, mapped into memory."""

    features: Matrix
    labels: np.ndarray
    weights: np.ndarray


def open_part(copy: Copy, encoding: str, part: str, layout: Layout) -> Part:
    """Return the rows of ``part`` in the order of the copy; in a worker.

    Raises:
        MemoryError: the vectors are to be dense, and would take many times the room of the copy.
    """
    home = _assembled(copy)
    labels, weights = (np.load(home / f"{part}.{name}.npy", mmap_mode="r") for name in ("labels", "weights"))
    dense = home / f"{part}.{encoding}.npy"
    if dense.exists():
        return Part(np.load(dense, mmap_mode="r"), labels, weights)
    data, indices, starts, shape = (
        np.load(home / f"{part}.{encoding}.{name}.npy", mmap_mode="r") for name in ("data", "indices", "starts", "shape")
    )
    features = sp.csr_matrix((data, indices, starts), shape=tuple(int(size) for size in shape), copy=False)
    if layout == "dense":
        raise MemoryError(f"vectors of {shape[1]:,} slots, most of them 0, are not spread out for a family that takes no sparse ones")
    return Part(features, labels, weights)


def open_order(copy: Copy, part: str) -> np.ndarray:
    """Return the ``order`` of the rows of ``part``; in a worker."""
    found: np.ndarray = np.load(_assembled(copy) / f"{part}.order.npy", mmap_mode="r")
    return found


def _home(name: str) -> Path:
    """Return where a copy is put together: in the executor's own folder, which goes with it."""
    own = os.environ.get("SPARK_LOCAL_DIRS", "").partition(",")[0]
    return (Path(own) if own else _temporary_folder()) / name


def _temporary_folder() -> Path:
    """Return a folder of this user alone, where all workers find it; the system's temporary folder is shared with others."""
    folder = Path(tempfile.gettempdir()) / f"tidemill-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or set SPARK_LOCAL_DIRS")
    return folder


def _assembled(copy: Copy) -> Path:
    """Return the folder of the whole copy; the first fit of an executor makes it, the others wait for it."""
    home = _home(copy.name)
    if not home.exists():
        with hold_lock(str(home.parent), copy.name):
            if not home.exists():
                making = home.with_name(f"{home.name}.making")
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir(parents=True)
                (making / _OF).write_text(copy.folder, encoding="utf-8")
                _assemble(copy, making)
                making.rename(home)
                _sweep(home.parent)
    return home


def _sweep(base: Path) -> None:
    """Delete what was made of copies that are gone: who removes a copy cannot reach the folders of executors."""
    for mark in base.glob(f"copy-*/{_OF}"):
        with suppress(FileNotFoundError):
            if not Path(mark.read_text(encoding="utf-8")).exists():
                shutil.rmtree(mark.parent, ignore_errors=True)


def _assemble(copy: Copy, home: Path) -> None:
    """Put the pieces together in the rows' order, each part for itself."""
    pieces = [np.load(f"{copy.folder}/{piece}") for piece in copy.pieces]

    def whole(name: str) -> np.ndarray:
        return np.concatenate([piece[name] for piece in pieces])

    order, is_held_out, labels, weights = whole("order"), whole("is_held_out"), whole("label"), whole("weight")
    places = np.argsort(order, kind="stable")
    chosen = {TRAIN: places[~is_held_out[places]], HELD_OUT: places[is_held_out[places]]}
    for part, rows in chosen.items():
        np.save(home / f"{part}.order.npy", order[rows])
        np.save(home / f"{part}.labels.npy", labels[rows])
        np.save(home / f"{part}.weights.npy", weights[rows])
    for encoding in copy.encodings:
        size = int(whole(f"{encoding}.width").max())
        starts = np.concatenate([[0], np.cumsum(whole(f"{encoding}.lengths"))])
        matrix = sp.csr_matrix((whole(f"{encoding}.values"), whole(f"{encoding}.indices"), starts), shape=(len(order), size))
        for part, rows in chosen.items():
            _save(home, f"{part}.{encoding}", matrix[rows], is_dense=_is_dense(encoding, matrix))


def _is_dense(encoding: str, matrix: Any) -> bool:
    """Return True where zeros are worth their room: for trees, which take few and full columns, a little sooner."""
    cells = max(matrix.shape[0] * matrix.shape[1], 1)
    return bool(matrix.nnz / cells > (_SPARSE_SHARE / 5 if encoding == "tree" else _SPARSE_SHARE) or matrix.shape[1] <= 16)


def _save(home: Path, name: str, matrix: Any, *, is_dense: bool) -> None:
    if is_dense:
        np.save(home / f"{name}.npy", matrix.toarray())
        return
    for part, array in (("data", matrix.data), ("indices", matrix.indices), ("starts", matrix.indptr)):
        np.save(home / f"{name}.{part}.npy", array)
    np.save(home / f"{name}.shape.npy", np.array(matrix.shape))
