"""Functions over Arrow arrays: nested lists of texts, and MLlib vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

# The fields of an MLlib vector: VectorUDT.sqlType().
_FIELDS = ["type", "size", "indices", "values"]
_SPARSE, _DENSE = 0, 1


def map_texts(texts: pa.Array, function: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Apply ``function`` to the texts of an array, at any depth of nested lists."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if pa.types.is_list(texts.type):
        offsets = texts.offsets.to_numpy()
        return pa.ListArray.from_arrays(pa.array(offsets - offsets[0]), map_texts(texts.flatten(), function))
    return function(texts)


def map_distinct(words: pa.Array, function: Callable[[list[str]], list[str]]) -> pa.Array:
    """Apply ``function`` to the words; it is called with each distinct word once."""
    encoded = words.dictionary_encode()
    changed = pa.array(function(encoded.dictionary.to_pylist()), pa.string())
    return changed.take(encoded.indices)


def sparse_parts(vectors: pa.StructArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the offsets, indices and values of vectors, in CSR form; zeros of a dense vector stay."""
    kinds = vectors.field("type").to_numpy()
    values = vectors.field("values")
    offsets = _offsets(values)
    flat = values.flatten().to_numpy()
    if not (kinds == _DENSE).any():
        return offsets, vectors.field("indices").flatten().to_numpy(), flat
    # A dense vector has no indices: number its values.
    indices = np.arange(len(flat)) - np.repeat(offsets[:-1], np.diff(offsets))
    sparse = np.repeat(kinds == _SPARSE, np.diff(offsets))
    indices[sparse] = vectors.field("indices").flatten().to_numpy()
    return offsets, indices.astype(np.int32), flat


def vector_size(vectors: pa.StructArray) -> int:
    """Return the size of the vectors (at least one); a dense vector does not store its size."""
    stated = vectors.field("size").drop_null()
    return int(stated[0].as_py()) if len(stated) else int(vectors.field("values").value_lengths()[0].as_py())


def dense_rows(vectors: pa.StructArray) -> np.ndarray:
    """Return the vectors, none of them null, as the rows of a matrix."""
    offsets, indices, values = sparse_parts(vectors)
    rows = np.zeros((len(vectors), vector_size(vectors)))
    rows[np.repeat(np.arange(len(vectors)), np.diff(offsets)), indices] = values
    return rows


def replace_values(vectors: pa.StructArray, values: pa.Array) -> pa.StructArray:
    """Return the vectors with new values, given flat, at the same indices."""
    offsets = pa.array(_offsets(vectors.field("values")).astype(np.int32))
    arrays = [vectors.field("type"), vectors.field("size"), vectors.field("indices"), pa.ListArray.from_arrays(offsets, values)]
    return pa.StructArray.from_arrays(arrays, names=_FIELDS)


def dense_vectors(rows: np.ndarray) -> pa.StructArray:
    """Return the rows of a matrix as dense vectors."""
    count, width = rows.shape
    offsets = pa.array(np.arange(0, (count + 1) * width, width, dtype=np.int32) if width else np.zeros(count + 1, np.int32))
    arrays = [
        pa.array(np.full(count, _DENSE, dtype=np.int8)),
        pa.nulls(count, pa.int32()),
        pa.nulls(count, pa.list_(pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(rows, dtype=np.float64).ravel())),
    ]
    return pa.StructArray.from_arrays(arrays, names=_FIELDS)


def _offsets(lists: pa.ListArray) -> np.ndarray:
    """Return the start offset of each row's values, from 0; a null row has no values."""
    return np.concatenate([[0], np.cumsum(np.asarray(lists.value_lengths().fill_null(0)))]).astype(np.int64)
