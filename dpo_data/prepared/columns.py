"""Arrow columns put together from buffers.

`pa.array` would do, but imports pandas where it is installed, which costs every worker process 0.4 s.
tests/dpo_data/prepared/test_columns.py fails with the first release of pyarrow that does not: delete this module then.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.errors import InputError
from dpo_data.ragged import Ragged
from dpo_data.records import Message


def text_column(texts: Sequence[bytes | None]) -> pa.Array:
    """Return UTF-8 texts, or nulls, as an Arrow column."""
    filled = [text or b"" for text in texts]
    validity = None
    if None in texts:
        present = np.fromiter((text is not None for text in texts), np.bool_, len(texts))
        validity = pa.py_buffer(np.packbits(present, bitorder="little"))
    buffers = [validity, _offsets_buffer(filled), pa.py_buffer(b"".join(filled))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def hex_column(hashes: Sequence[bytes]) -> pa.Array:
    """Return hashes of one length, at least one, as an Arrow column of hexadecimal digits."""
    digits = 2 * len(hashes[0])
    offsets = np.arange(len(hashes) + 1, dtype=np.int32) * np.int32(digits)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(hashes).hex().encode())]
    return pa.Array.from_buffers(pa.string(), len(hashes), buffers)


def numbers_column(values: NDArray[Any], type_: pa.DataType) -> pa.Array:
    """Return numbers as an Arrow column of a type of their width."""
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def scores_column(scores: Sequence[float | None]) -> pa.Array:
    """Return scores, or nulls, as an Arrow column."""
    present = np.fromiter((score is not None for score in scores), np.bool_, len(scores))
    values = np.fromiter((score or 0.0 for score in scores), np.float64, len(scores))
    validity = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(pa.float64(), len(scores), [validity, pa.py_buffer(values)])


def booleans_column(values: Sequence[bool | None]) -> pa.Array:
    """Return truth values, or nulls, as an Arrow column."""
    bits = [np.fromiter(map(test, values), np.bool_, len(values)) for test in (lambda v: v is not None, bool)]
    present, truth = (pa.py_buffer(np.packbits(of_values, bitorder="little")) for of_values in bits)
    return pa.Array.from_buffers(pa.bool_(), len(values), [None if bits[0].all() else present, truth])


def ids_column(ids: Ragged) -> pa.Array:
    """Return sequences of token ids as an Arrow column."""
    offsets = pa.py_buffer(ids.offsets.astype(np.int32))
    values = numbers_column(ids.values, pa.int32())
    return pa.Array.from_buffers(pa.list_(pa.int32()), len(ids.offsets) - 1, [None, offsets], children=[values])


def messages_column(conversations: Sequence[Sequence[Message]], type_: pa.DataType) -> pa.Array:
    """Return lists of messages as an Arrow column of a type from `pair_schema`."""
    messages = [message for conversation in conversations for message in conversation]
    children = []
    for field in type_.value_type:
        texts = (getattr(message, field.name) for message in messages)
        children.append(text_column([None if text is None else text.encode() for text in texts]))
    structs = pa.StructArray.from_arrays(children, fields=list(type_.value_type))
    return pa.Array.from_buffers(type_, len(conversations), [None, _offsets_buffer(conversations)], children=[structs])


def _offsets_buffer(items: Sequence[Sequence[Any]]) -> pa.Buffer:
    """Return where each item starts, and where the last one ends, if they are joined.

    Raises: InputError: they end after 2 GiB, where the offsets do.
    """
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, items), np.int64, len(items)), out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise InputError("texts of more than 2 GiB cannot be in one column.\n  Remove such rows from the raw file.")
    return pa.py_buffer(offsets.astype(np.int32))
