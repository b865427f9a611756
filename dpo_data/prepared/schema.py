"""Arrow schemas of pairs and of token ids, and columns built without pandas."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.options import Form
from dpo_data.ragged import Ragged
from dpo_data.records import Message

_MESSAGE = [("role", pa.string()), ("content", pa.string())]


_TOOL_FIELDS = [("tool_calls", pa.string()), ("tool_call_id", pa.string()), ("name", pa.string())]


_IDS = pa.list_(pa.int32())


def pair_schema(form: Form, *, scores: bool, tools: bool = False) -> pa.Schema:
    """Columns of a text shard, in order; tools stand in conversations alone."""
    tools = tools and form == "conversational"
    message = pa.struct([*_MESSAGE, *(_TOOL_FIELDS if tools else [])])
    text = pa.string() if form == "text" else pa.list_(message)
    tool_columns = [("tools", pa.string())] if tools else []
    score_columns = [(name, pa.float64()) for name in ("chosen_score", "rejected_score", "margin")] if scores else []
    return _with_features(
        pa.schema(
            [
                ("prompt", text),
                ("chosen", text),
                ("rejected", text),
                *tool_columns,
                *score_columns,
                ("source", pa.string()),
                ("origin", pa.string()),
                ("id", pa.string()),
                ("prompt_key", pa.string()),
            ]
        )
    )


def token_schema(text_schema: pa.Schema) -> pa.Schema:
    """Columns of a token shard, in order, made from a text shard with that schema."""
    carried = [text_schema.field(name).remove_metadata() for name in text_schema.names if name in CARRIED_COLUMNS]
    ids = [pa.field(name, _IDS) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    return _with_features(pa.schema([*ids, *carried]))


def text_column(texts: Sequence[bytes | None]) -> pa.Array:
    """UTF-8 texts, or nulls, as an Arrow column.

    Put together from buffers: `pa.array` of a list imports pandas, 0.4 s in every process.
    """
    filled = [text or b"" for text in texts]
    validity = None
    if None in texts:
        present = np.fromiter((text is not None for text in texts), np.bool_, len(texts))
        validity = pa.py_buffer(np.packbits(present, bitorder="little"))
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, filled), np.int32, len(texts)), out=offsets[1:])
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(b"".join(filled))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def numbers_column(values: NDArray[Any], type_: pa.DataType) -> pa.Array:
    """Numbers of that type's width as an Arrow column; `pa.array` of an array imports pandas too."""
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def scores_column(scores: Sequence[float | None]) -> pa.Array:
    """Scores, or nulls, as an Arrow column."""
    present = np.fromiter((score is not None for score in scores), np.bool_, len(scores))
    values = np.fromiter((score or 0.0 for score in scores), np.float64, len(scores))
    validity = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(pa.float64(), len(scores), [validity, pa.py_buffer(values)])


def ids_column(ids: Ragged) -> pa.Array:
    """Sequences of token ids as an Arrow column."""
    offsets = pa.py_buffer(ids.offsets.astype(np.int32))
    return pa.Array.from_buffers(
        _IDS, len(ids.offsets) - 1, [None, offsets], children=[numbers_column(ids.values, pa.int32())]
    )


def messages_column(conversations: Sequence[Sequence[Message]], type_: pa.DataType) -> pa.Array:
    """Lists of messages as an Arrow column of a type out of `pair_schema`."""
    messages = [message for conversation in conversations for message in conversation]
    offsets = np.zeros(len(conversations) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, conversations), np.int32, len(conversations)), out=offsets[1:])
    children = []
    for field_ in type_.value_type:
        texts = (getattr(message, field_.name) for message in messages)
        children.append(text_column([None if text is None else text.encode() for text in texts]))
    structs = pa.StructArray.from_arrays(children, fields=list(type_.value_type))
    return pa.Array.from_buffers(type_, len(conversations), [None, pa.py_buffer(offsets)], children=[structs])


#: What a token cache takes over from the text.
CARRIED_COLUMNS = ("chosen_score", "rejected_score", "margin", "origin", "id", "prompt_key")


def _with_features(schema: pa.Schema) -> pa.Schema:
    features = {"info": {"features": _features(schema)}}
    return schema.with_metadata({"huggingface": json.dumps(features)})


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The columns in the notation of datasets' dataset_info.json."""
    return {field.name: _feature(field.type) for field in schema}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    if pa.types.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    return {"dtype": "float64" if pa.types.is_float64(type_) else str(type_), "_type": "Value"}
