"""Pairs that a step changes: what becomes of them, and the rows with the changes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np
import pyarrow as pa

from dpo_data.checks import RowCheck, run_row_checks
from dpo_data.inspect.pairs import PairRow
from dpo_data.prepared.columns import messages_column, scores_column, text_column
from dpo_data.prepared.schema import SCORES, PairColumns, pair_schema
from dpo_data.prepared.steps import ChangedPair
from dpo_data.records import FIELDS, pair_keys
from dpo_data.shaping.rows import ChangedRows, FolderRows, Positions, Range, Shard, conform, joined


@dataclass
class Changed:
    """Changes of consecutive rows; rows count from 0, ascending.

    Attributes:
        rows: the changed rows.
        table: these rows after the change; None if there are none.
        left_out: code of a check, or reason, to the rows that are left out for it.
        ids: row to its new id, where it is another one.
        new_prompts: a prompt is another one.
        counts: row to whatever the step counts.
    """

    rows: list[int] = field(default_factory=list)
    table: pa.Table | None = None
    left_out: dict[str, list[int]] = field(default_factory=dict)
    ids: dict[int, tuple[str, str]] = field(default_factory=dict)
    new_prompts: bool = False
    counts: dict[int, Counter[str]] = field(default_factory=dict)


def changed_pairs(
    table: pa.Table,
    pairs: dict[int, PairRow],
    checks: Sequence[RowCheck],
    *,
    columns: dict[int, dict[str, Any]] | None = None,
) -> Changed:
    """Return rows with new contents and new ids; those that a check forbids now are left out.

    Args:
        table: consecutive rows.
        pairs: row to its pair after the change.
        checks: row checks with their severities.
        columns: row to new values of text columns.
    """
    columns = columns or {}
    changed = Changed(rows=sorted({*pairs, *columns}))
    if not changed.rows:
        return changed
    for row, pair in pairs.items():
        keys = pair_keys(pair)
        new = pair.model_copy(update={"id": keys.pair.hex(), "prompt_key": keys.prompt.hex()})
        if new.id != pair.id:
            changed.ids[row] = pair.id, new.id
            changed.new_prompts |= new.prompt_key != pair.prompt_key
        pairs[row] = new
        for check, _ in run_row_checks(new, checks):
            if check.severity == "error":
                changed.left_out.setdefault(check.code, []).append(row)
    stored = table.take(pa.array(changed.rows, pa.int64()))
    changed.table = _with_values(stored, [pairs.get(row) for row in changed.rows], columns, changed.rows)
    return changed


def _with_values(
    stored: pa.Table, pairs: Sequence[PairRow | None], columns: dict[int, dict[str, Any]], rows: Sequence[int]
) -> pa.Table:
    """Return rows with the content of pairs where there are some, and with the new values of text columns."""
    is_changed = pa.array([pair is not None for pair in pairs])
    arrays: list[Any] = []
    for name, old in zip(stored.schema.names, stored.columns, strict=True):
        type_ = stored.schema.field(name).type
        values = [getattr(pair, name, None) if pair is not None else None for pair in pairs]
        new: Any = None
        if name in FIELDS and not pa.types.is_string(type_):
            new = messages_column([value or [] for value in values], type_)
        elif name in SCORES:
            new = scores_column(values)
        elif name in (*FIELDS, "tools", "chat_template_kwargs", "id", "prompt_key"):
            new = text_column([None if value is None else value.encode() for value in values])
        if new is not None:
            mask = is_changed.to_pylist()
            order = [len(pairs) + n if changed else n for n, changed in enumerate(mask)]
            both = pa.concat_arrays([old.combine_chunks(), new]) if pairs else new
            old = pa.chunked_array([both.take(pa.array(order, pa.int64()))])
        if any(name in columns.get(row, {}) for row in rows):
            texts = [columns.get(row, {}).get(name, text) for row, text in zip(rows, old.to_pylist(), strict=True)]
            old = pa.chunked_array([text_column([None if text is None else text.encode() for text in texts])])
        arrays.append(old)
    return pa.Table.from_arrays(arrays, schema=stored.schema)


class ChangeLog:
    """Changed rows of a folder, on disk, in order.

    Attributes:
        changes: split and position of each pair with a new id, with the change.
        counts: split and position of a row to what the step counts in it.
        new_prompts: a prompt is another one.
        schema: the columns of the rows.
    """

    def __init__(self, folder: Path, rows: FolderRows, columns: PairColumns, action: str, by: str) -> None:
        self.changes: dict[tuple[str, int], ChangedPair] = {}
        self.counts: dict[tuple[str, int], Counter[str]] = {}
        self.new_prompts = False
        self._rows = rows
        self._columns = columns
        self.schema = pair_schema(rows.form, columns)
        self._folder = folder
        self._action, self._by = action, by
        self._positions: dict[str, list[Positions]] = {}
        self._writers: dict[str, tuple[Any, Any]] = {}
        folder.mkdir()

    def add(self, range_: Range, changed: Changed, actions: dict[int, tuple[str, str]] | None = None) -> None:
        """Add the changes of a range.

        Args:
            range_: the range.
            changed: its changes.
            actions: row to what was done with it, and by whom; default: those of the log.
        """
        for row, (old, new) in changed.ids.items():
            action, by = (actions or {}).get(row, (self._action, self._by))
            change = ChangedPair(old_id=old, new_id=new, action=action, by=by)
            self.changes[range_.split, range_.start + row] = change
        self.counts.update({(range_.split, range_.start + row): counts for row, counts in changed.counts.items()})
        self.new_prompts |= changed.new_prompts
        if changed.table is None:
            return
        if range_.split not in self._writers:
            sink = pa.OSFile(str(self._path(range_.split)), "wb")
            self._writers[range_.split] = sink, pa.ipc.new_stream(sink, self.schema)
        self._writers[range_.split][1].write(joined([conform(changed.table, self.schema)], self.schema))
        self._positions.setdefault(range_.split, []).append(range_.start + np.array(changed.rows, np.int64))

    def close(self) -> None:
        """Close the files."""
        for sink, writer in self._writers.values():
            writer.close()
            sink.close()
        self._writers = {}

    def rows(self) -> ChangedRows:
        """Return all rows, with the changes; no more can be added afterwards."""
        self.close()
        positions = {split: np.concatenate(parts) for split, parts in self._positions.items()}
        shards = {
            split: Shard(str(self._path(split)), str(time_ns()), len(found)) for split, found in positions.items()
        }
        return ChangedRows(self._rows, self._columns, positions, shards)

    def _path(self, split: str) -> Path:
        return self._folder / f"{split}.arrow"
