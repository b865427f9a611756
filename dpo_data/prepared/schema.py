"""Arrow schemas of pairs and of token ids."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dpo_data.options import Form

#: Columns of token ids.
TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
#: Columns of a text shard that a token cache leaves out: the texts, and the source, which all rows share.
_TEXT_COLUMNS = ("prompt", "chosen", "rejected", "tools", "chat_template_kwargs", "source")

_MESSAGE = [("role", pa.string()), ("content", pa.string())]
_TOOL_FIELDS = [("tool_calls", pa.string()), ("tool_call_id", pa.string()), ("name", pa.string())]
SCORES = ("chosen_score", "rejected_score", "margin")
#: Column of a mix: the part that the pair comes from.
DATASET = "dataset"
#: Column of decisions: the tags of the pair, separated by commas.
TAGS = "tags"
#: Types of kept metadata columns, by their names on the command line.
KEPT_TYPES = {"text": pa.string(), "number": pa.float64(), "bool": pa.bool_()}
#: Columns that every prepared folder, or token cache, or the trainer has; no kept column may have their names.
RESERVED = frozenset(
    [*_TEXT_COLUMNS, *SCORES, *TOKEN_COLUMNS, "origin", "id", "prompt_key", "split", "label", "labels", "messages"]
)


@dataclass(frozen=True)
class PairColumns:
    """Columns of pairs that not every prepared folder has.

    Attributes:
        scores: the scores and the margin.
        tools: the tools of a conversation, and tool calls and their results in its messages.
        template_arguments: variables of the chat template for single conversations.
        reasoning: fields of messages with reasoning.
        kept: metadata column to its type, a key of `KEPT_TYPES`.
        steps: columns that shaping steps add, all text: `DATASET` and `TAGS`.
    """

    scores: bool = False
    tools: bool = False
    template_arguments: bool = False
    reasoning: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


def pair_schema(form: Form, columns: PairColumns) -> pa.Schema:
    """Return the columns of a text shard, in order; only conversations have tools and reasoning."""
    tools = columns.tools and form == "conversational"
    message = pa.struct(
        [*_MESSAGE, *(_TOOL_FIELDS if tools else []), *((name, pa.string()) for name in columns.reasoning)]
    )
    text = pa.string() if form == "text" else pa.list_(message)
    tool_columns = [("tools", pa.string())] if tools else []
    if columns.template_arguments and form == "conversational":
        tool_columns.append(("chat_template_kwargs", pa.string()))
    score_columns = [(name, pa.float64()) for name in SCORES] if columns.scores else []
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
                *((name, KEPT_TYPES[type_]) for name, type_ in columns.kept.items()),
                *((name, pa.string()) for name in columns.steps),
            ]
        )
    )


def token_schema(text_schema: pa.Schema) -> pa.Schema:
    """Return the columns of a token shard, in order, that is made from a text shard with that schema."""
    ids = [pa.field(name, pa.list_(pa.int32())) for name in TOKEN_COLUMNS]
    carried = [text_schema.field(name).remove_metadata() for name in carried_columns(text_schema)]
    return _with_features(pa.schema([*ids, *carried]))


def carried_columns(text_schema: pa.Schema) -> list[str]:
    """Return the columns that a token cache takes over from the text: scores, origin, keys and metadata."""
    return [name for name in text_schema.names if name not in _TEXT_COLUMNS]


def column_types(schema: pa.Schema) -> dict[str, str]:
    """Return the name of each column, in order, with its type.

    >>> column_types(pa.schema([("prompt", pa.list_(pa.struct([("role", pa.string())]))), ("margin", pa.float64())]))
    {'prompt': 'list<struct<role: string>>', 'margin': 'float64'}
    """
    return {field.name: _type_name(field.type) for field in schema}


def _type_name(type_: pa.DataType) -> str:
    # Not str(type_): content hashes rest on it, and Arrow's names of list items have changed before.
    if pa.types.is_list(type_):
        return f"list<{_type_name(type_.value_type)}>"
    if pa.types.is_struct(type_):
        return f"struct<{', '.join(f'{field.name}: {_type_name(field.type)}' for field in type_)}>"
    return "float64" if pa.types.is_float64(type_) else str(type_)


def features(schema: pa.Schema) -> dict[str, Any]:
    """Return the columns in the notation of datasets' dataset_info.json."""
    return {field.name: _feature(field.type) for field in schema}


def _with_features(schema: pa.Schema) -> pa.Schema:
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features(schema)}})})


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    if pa.types.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    return {"dtype": _type_name(type_), "_type": "Value"}
