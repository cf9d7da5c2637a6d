"""The vectors of a fold in files: written by Spark in pieces, assembled once per executor, and memory-mapped by every fit there."""

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
# A matrix with a greater share of values than this is stored dense, which is then no larger, and faster.
_SPARSE_SHARE = 0.3
_SOURCE_FILE = "of.txt"
_REPORT = "piece STRING, rows BIGINT, bytes BIGINT, slots ARRAY<BIGINT>"


@dataclass(frozen=True)
class FoldMatrix:
    """Vectors in files.

    ``folder`` holds the ``pieces`` on a file system that all executors see; ``name`` is unique; ``n_bytes`` is the size of the values,
    ``slots`` the number of slots of the vectors of each of ``encodings``.
    """

    folder: str
    name: str
    encodings: tuple[str, ...]
    pieces: tuple[str, ...]
    n_bytes: int
    slots: tuple[int, ...] = ()

    def slots_of(self, encoding: str) -> int:
        """Return the number of slots of the vectors of ``encoding``."""
        return self.slots[self.encodings.index(encoding)]

    def remove(self) -> None:
        """Delete the pieces; an executor deletes its assembled files when it assembles the next matrix, or when it ends."""
        shutil.rmtree(self.folder, ignore_errors=True)


class MatrixTooLarge(Exception):
    """The vectors take more bytes than a fold matrix may have; ``n_bytes`` is the size of those that were read."""

    def __init__(self, n_bytes: int) -> None:
        """Store the size, and name it in the message."""
        self.n_bytes = n_bytes
        super().__init__(f"the vectors take {n_bytes:,} bytes, more than one copy of them may have for tasks; write `engine: spark`")


def write_fold_matrix(vectors: DataFrame, folder: str, encodings: Sequence[str], most_bytes: int) -> FoldMatrix:
    """Write the vectors to ``folder``, one piece per partition, in one pass.

    Args:
        vectors: ``order`` BIGINT, by which the rows are sorted; ``is_held_out`` BOOLEAN; ``label`` and ``weight`` DOUBLE;
            ``features_<encoding>``.
        folder: a folder on a file system that this process and all executors see.
        encodings: the encodings to write.
        most_bytes: the most bytes that the matrix may take.

    Raises:
        MatrixTooLarge: the vectors take more.
    """
    name = f"copy-{uuid.uuid4().hex}"
    target = f"{folder}/{name}"
    Path(target).mkdir(parents=True)
    columns = ["order", "is_held_out", "label", "weight", *(f"features_{encoding}" for encoding in encodings)]

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _write_piece(batches, target, encodings, most_bytes)

    try:
        reports = vectors.select(columns).mapInArrow(write, _REPORT).toArrow().to_pylist()
        n_bytes = sum(report["bytes"] for report in reports)
        if n_bytes > most_bytes:
            raise MatrixTooLarge(n_bytes)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    pieces = tuple(sorted(report["piece"] for report in reports if report["rows"]))
    slots = tuple(max((report["slots"][at] for report in reports if report["rows"]), default=0) for at in range(len(encodings)))
    return FoldMatrix(target, name, tuple(encodings), pieces, n_bytes, slots)


def _write_piece(batches: Iterable[pa.RecordBatch], target: str, encodings: Sequence[str], max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Write the rows of one partition as CSR matrices; stop where they alone take more than ``max_bytes``."""
    arrays_by_name: dict[str, list[np.ndarray]] = {}
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
            arrays_by_name.setdefault(name, []).append(array)
        rows += len(batch)
        n_bytes += sum(array.nbytes for array in arrays.values())
        if n_bytes > max_bytes:
            break
    piece = ""
    if rows and n_bytes <= max_bytes:
        piece = f"{uuid.uuid4().hex}.npz"
        arrays = {name: np.concatenate(pieces) for name, pieces in arrays_by_name.items()}
        np.savez(f"{target}/{piece}", allow_pickle=False, **arrays)
    slots = [int(max((each[0] for each in arrays_by_name.get(f"{encoding}.width", [])), default=0)) for encoding in encodings]
    yield pa.RecordBatch.from_pydict({"piece": [piece], "rows": [rows], "bytes": [n_bytes], "slots": [slots]})


@dataclass(frozen=True)
class MatrixRows:
    """The training or held-out rows of a fold matrix, memory-mapped."""

    features: Matrix
    labels: np.ndarray
    weights: np.ndarray


def open_rows(matrix: FoldMatrix, encoding: str, part: str, layout: Layout) -> MatrixRows:
    """Return the rows of ``part`` in the order of the matrix; runs in a worker.

    Raises:
        MemoryError: ``layout`` is dense, and the dense vectors would take many times the memory of the sparse ones.
    """
    folder = _ensure_assembled(matrix)
    labels, weights = (np.load(folder / f"{part}.{name}.npy", mmap_mode="r") for name in ("labels", "weights"))
    dense = folder / f"{part}.{encoding}.npy"
    if dense.exists():
        return MatrixRows(np.load(dense, mmap_mode="r"), labels, weights)
    data, indices, starts, shape = (
        np.load(folder / f"{part}.{encoding}.{name}.npy", mmap_mode="r") for name in ("data", "indices", "starts", "shape")
    )
    features = sp.csr_matrix((data, indices, starts), shape=tuple(int(size) for size in shape), copy=False)
    if layout == "dense":
        raise MemoryError(f"vectors of {shape[1]:,} slots, most of them 0, are not made dense for a family that takes no sparse ones")
    return MatrixRows(features, labels, weights)


def open_order(matrix: FoldMatrix, part: str) -> np.ndarray:
    """Return the ``order`` of the rows of ``part``; runs in a worker."""
    order: np.ndarray = np.load(_ensure_assembled(matrix) / f"{part}.order.npy", mmap_mode="r")
    return order


def _local_folder(name: str) -> Path:
    """Return where a matrix is assembled: in the executor's local folder, which is deleted with it."""
    own = os.environ.get("SPARK_LOCAL_DIRS", "").partition(",")[0]
    return (Path(own) if own else _temporary_folder()) / name


def _temporary_folder() -> Path:
    """Return a private folder of this user that all workers share; the system's temporary folder is shared with other users."""
    folder = Path(tempfile.gettempdir()) / f"tidemill-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or set SPARK_LOCAL_DIRS")
    return folder


def _ensure_assembled(matrix: FoldMatrix) -> Path:
    """Return the folder of the assembled matrix; the first fit of an executor assembles it, the others wait."""
    folder = _local_folder(matrix.name)
    if not folder.exists():
        with hold_lock(str(folder.parent), matrix.name):
            if not folder.exists():
                partial = folder.with_name(f"{folder.name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                (partial / _SOURCE_FILE).write_text(matrix.folder, encoding="utf-8")
                _assemble(matrix, partial)
                partial.rename(folder)
                _delete_stale(folder.parent)
    return folder


def _delete_stale(base: Path) -> None:
    """Delete assembled matrices whose pieces are gone: the driver, which removes the pieces, cannot reach the folders of executors."""
    for source_file in base.glob(f"copy-*/{_SOURCE_FILE}"):
        with suppress(FileNotFoundError):
            if not Path(source_file.read_text(encoding="utf-8")).exists():
                shutil.rmtree(source_file.parent, ignore_errors=True)


def _assemble(matrix: FoldMatrix, folder: Path) -> None:
    """Write the rows of all pieces in their order, the training and the held-out rows apart."""
    pieces = [np.load(f"{matrix.folder}/{piece}") for piece in matrix.pieces]

    def concatenate(name: str) -> np.ndarray:
        return np.concatenate([piece[name] for piece in pieces])

    order, is_held_out, labels, weights = concatenate("order"), concatenate("is_held_out"), concatenate("label"), concatenate("weight")
    places = np.argsort(order, kind="stable")
    chosen = {TRAIN: places[~is_held_out[places]], HELD_OUT: places[is_held_out[places]]}
    for part, rows in chosen.items():
        np.save(folder / f"{part}.order.npy", order[rows])
        np.save(folder / f"{part}.labels.npy", labels[rows])
        np.save(folder / f"{part}.weights.npy", weights[rows])
    for encoding in matrix.encodings:
        size = int(concatenate(f"{encoding}.width").max())
        starts = np.concatenate([[0], np.cumsum(concatenate(f"{encoding}.lengths"))])
        vectors = sp.csr_matrix((concatenate(f"{encoding}.values"), concatenate(f"{encoding}.indices"), starts), shape=(len(order), size))
        for part, rows in chosen.items():
            _save(folder, f"{part}.{encoding}", vectors[rows], is_dense=_is_dense(encoding, vectors))


def _is_dense(encoding: str, matrix: Any) -> bool:
    """Return True where a matrix is stored dense: for trees, which read few and full columns, at a smaller share of values."""
    cells = max(matrix.shape[0] * matrix.shape[1], 1)
    return bool(matrix.nnz / cells > (_SPARSE_SHARE / 5 if encoding == "tree" else _SPARSE_SHARE) or matrix.shape[1] <= 16)


def _save(folder: Path, name: str, matrix: Any, *, is_dense: bool) -> None:
    if is_dense:
        np.save(folder / f"{name}.npy", matrix.toarray())
        return
    for part, array in (("data", matrix.data), ("indices", matrix.indices), ("starts", matrix.indptr)):
        np.save(folder / f"{name}.{part}.npy", array)
    np.save(folder / f"{name}.shape.npy", np.array(matrix.shape))
