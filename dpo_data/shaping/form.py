"""The rows of a folder in the other form: texts as messages, or messages as texts."""

from pathlib import Path
from time import time_ns

import pyarrow as pa

from dpo_data.dialogue import in_form
from dpo_data.errors import RowError, UsageError
from dpo_data.inspect.pairs import PairRow, parse_rows
from dpo_data.options import Form
from dpo_data.prepared.columns import messages_column, text_column
from dpo_data.prepared.schema import pair_schema
from dpo_data.prepared.steps import ChangedPair
from dpo_data.records import FIELDS, Response, ScoredResponses, pair_keys, row_model
from dpo_data.shaping.rows import FolderRows, Shard, conform, ranges
from dpo_data.shaping.step import Step


def rows_in_form(run: Step, name: str, rows: FolderRows, form: Form, folder: Path) -> FolderRows:
    """Return rows in a form; those that have to be converted get new ids, which the run lists as changes.

    Args:
        run: the run of the step.
        name: of the folder, for messages.
        rows: all rows.
        form: the form.
        folder: for the converted rows; it must not exist.

    Raises: UsageError: a row has something that texts cannot hold, such as tools.
    """
    if rows.form == form:
        return rows
    folder.mkdir()
    schema = pair_schema(form, rows.columns)
    shards: dict[str, list[Shard]] = {}
    for split, count in rows.counts.items():
        path = folder / f"{split}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for range_ in ranges(FolderRows(rows.form, rows.columns, {split: rows.shards[split]})):
                table = rows.read(range_)
                pairs = [_in_form(pair, form, name) for pair in parse_rows(rows.form, table)]
                for old, pair in zip(table.column("id").to_pylist(), pairs, strict=True):
                    run.change(ChangedPair(old_id=old, new_id=pair.id, action="form", by="dpo-data"))
                writer.write(_with_contents(table, pairs, schema))
        shards[split] = [Shard(str(path), str(time_ns()), count)] if count else []
    return FolderRows(form, rows.columns, shards)


def _in_form(pair: PairRow, form: Form, name: str) -> PairRow:
    """Return a pair in the other form, with its new id."""
    responses = [Response(content=pair.chosen), Response(content=pair.rejected)]
    try:
        if getattr(pair, "chat_template_kwargs", None):
            raise RowError("no_text_form", "chat_template_kwargs", "the dialogue has variables of the chat template.")
        tools = getattr(pair, "tools", None)
        converted = in_form(ScoredResponses(prompt=pair.prompt, responses=responses, tools=tools), form)
    except RowError as error:
        raise UsageError(
            f"{name}: {pair.origin}: {error.message}\n  Mix in the form conversational, or filter such pairs before.",
            "form",
            form,
        ) from error
    chosen, rejected = (response.content for response in converted.responses)
    fields = pair.model_dump(exclude={*FIELDS, "tools", "chat_template_kwargs"})
    contents = {"prompt": converted.prompt, "chosen": chosen, "rejected": rejected}
    new = row_model(form).model_validate(contents | fields)
    keys = pair_keys(new)
    return new.model_copy(update={"id": keys.pair.hex(), "prompt_key": keys.prompt.hex()})


def _with_contents(table: pa.Table, pairs: list[PairRow], schema: pa.Schema) -> pa.Table:
    """Return rows with the contents and ids of pairs."""
    columns = {}
    for name in (*FIELDS, "id", "prompt_key"):
        type_ = schema.field(name).type
        values = [getattr(pair, name) for pair in pairs]
        is_text = pa.types.is_string(type_)
        columns[name] = text_column([text.encode() for text in values]) if is_text else messages_column(values, type_)
    other = conform(table.drop_columns(list(columns)), pa.schema([f for f in schema if f.name not in columns]))
    arrays = [columns[name] if name in columns else other.column(name) for name in schema.names]
    return pa.Table.from_arrays(arrays, schema=schema)
