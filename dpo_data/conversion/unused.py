"""Columns of raw rows, and keys of their messages, that are used in no pair."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from dpo_data.conversion.adapt import ConversionJob
from dpo_data.sources.fields import Row
from dpo_data.sources.messages import ignored_keys
from dpo_data.sources.source import Source

#: Code of the warning about a column that may belong to the prompt.
UNUSED_PROMPT_COLUMN = "unused_prompt_column"
#: Names of columns that often belong to the prompt, in lower case.
PROMPT_NAMES = frozenset(
    [
        *("prompt", "system", "system_prompt", "system_message", "instruction", "instructions", "input", "context"),
        *("history", "question", "query", "messages", "conversation", "conversations", "dialogue", "dialog"),
        *("document", "passage", "passages", "article", "tools", "functions", "chat_template_kwargs"),
        *("image", "images", "image_url", "video", "videos", "audio", "audios"),
    ]
)


class UnusedColumns:
    """Counts what the rows of one chunk have and their pairs do not use."""

    def __init__(self, source: Source, job: ConversionJob) -> None:
        self._source = source
        self._mapping = job.options.mapping
        others = [*(job.where.columns if job.where is not None else ()), *(kept.column for kept in job.kept.values())]
        self._others = {*others, *(column.split(".")[0] for column in others)}
        self._used: dict[tuple[str, ...], frozenset[str]] = {}
        self._rows: dict[tuple[str, ...], int] = {}
        self._keys = Counter[str]()

    def see(self, row: Row) -> None:
        """Count one row."""
        shape = tuple(row)
        rows = self._rows.get(shape)
        if rows is None:
            self._used[shape] = self._source.used_columns(row, self._mapping) | self._others
        self._rows[shape] = (rows or 0) + 1
        if self._source.has_tools:
            self._keys.update(set(ignored_keys(row, self._used[shape])))

    def prompt_columns(self, row: Row, prompt: str) -> Iterator[str]:
        """Yield the unused columns of a row, of sources that read any table, that may belong to its prompt.

        A text that the prompt contains is used.
        """
        if self._source.contents is None:
            return
        used = self._used[tuple(row)]
        for column, value in row.items():
            if column not in used and column.lower() in PROMPT_NAMES and not _is_in(value, prompt):
                yield column

    def counts(self) -> Counter[str]:
        """Return unused column, or path of an ignored key -> number of rows that have it."""
        counts = Counter(self._keys)
        for shape, rows in self._rows.items():
            counts.update({column: rows for column in shape if column not in self._used[shape]})
        return counts


def _is_in(value: Any, prompt: str) -> bool:
    """Return True if a value is empty, or a text that a prompt contains."""
    return value.strip() in prompt if isinstance(value, str) else not value
