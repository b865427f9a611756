"""Rows of text or messages given in memory, tokenized and truncated."""

import logging
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from dpo_data.errors import RowError, UsageError
from dpo_data.options import Form
from dpo_data.prepared.schema import TOKEN_COLUMNS, PairColumns, carried_columns, pair_schema, token_schema
from dpo_data.records import FIELDS
from dpo_data.sources.messages import messages
from dpo_data.tokens.build import ConversationColumns, TokenBatch, encode_conversations, truncate_and_build
from dpo_data.tokens.cache import load_encoder
from dpo_data.tokens.encoder import EncodedPairs, Encoder, Texts
from dpo_data.tokens.manifest import TokenCounts
from dpo_data.tokens.options import TokenOptions, token_options
from dpo_data.tokens.remarks import remark_lines
from dpo_train.data.caches import training_tokens
from dpo_train.data.rows import PairRows, _no_pairs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowReader:
    """Reads a dataset as rows of token ids; lengths in tokens, None for defaults of `dpo_data.tokenize`."""

    tokenizer: Any = None
    max_length: int | None = None
    max_prompt_length: int | None = None
    truncation_mode: str = "keep_end"
    truncation_unit: str = "token"
    keep_system: bool | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    template_date: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from the defaults, by their names in `dpo_data.tokenize`."""
        defaults = {"truncation_mode": "keep_end", "truncation_unit": "token"}
        names = [field.name for field in fields(self) if field.name != "tokenizer"]
        return {name: getattr(self, name) for name in names if getattr(self, name) != defaults.get(name)}

    def __call__(self, data: Any, *, name: str, split: str) -> Any:
        """Return a dataset as rows of token ids; text is tokenized.

        Args:
            data: a datasets.Dataset or IterableDataset of prompt, chosen and rejected (text, or lists of messages; with
                tools and chat_template_kwargs) or of prompt_ids, chosen_ids and rejected_ids; the path of a prepared
                folder; or several of these by name.
            name: name of the dataset in error messages.
            split: split of a prepared folder.

        Returns: `PairRows`; a datasets.IterableDataset of the same rows for an iterable one; a dict of these for a
            dict.

        Raises:
            UsageError: columns are missing, text has no tokenizer, or truncation is requested for token ids.
        """
        if data is None:
            return None
        if isinstance(data, Mapping):
            return {key: self(value, name=f"{name} {key!r}", split=split) for key, value in data.items()}
        if isinstance(data, str | Path):
            return self._rows_of_folder(Path(data), split)
        if not isinstance(data, datasets.Dataset | datasets.IterableDataset):
            raise UsageError(
                f"{name}: expected a datasets.Dataset or IterableDataset, or the path of a prepared folder; "
                f"this is a {type(data).__name__}.\n  datasets.Dataset.from_list(rows) makes a dataset from a list."
            )
        columns = data.column_names or list(next(iter(data), {}))
        if set(TOKEN_COLUMNS) <= set(columns):
            if self.options:
                raise UsageError(
                    f"{name}: it is tokenized already, so {', '.join(self.options)} has no effect; leave it out."
                )
            return PairRows(data, name) if isinstance(data, datasets.Dataset) else data
        missing = [column for column in FIELDS if column not in columns]
        if missing:
            raise UsageError(
                f"{name}: no column {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}.\n"
                f"  A pair has {', '.join(FIELDS)} (text or messages), or {', '.join(TOKEN_COLUMNS)}."
            )
        if self.tokenizer is None:
            raise UsageError(f"{name}: text needs DPOTrainer(tokenizer=...).")
        pairs = _PairTokenizer(
            self.tokenizer, token_options(**{"truncation_unit": self.truncation_unit, **self.options}), name
        )
        if isinstance(data, datasets.Dataset) and len(data) == 0:
            raise _no_pairs(name)
        if isinstance(data, datasets.IterableDataset):
            return data.map(pairs.encode_columns, batched=True, batch_size=_ENCODED_ROWS, remove_columns=columns)
        return PairRows(pairs.encode(data), name)

    def _rows_of_folder(self, folder: Path, split: str) -> PairRows:
        if self.tokenizer is None:
            raise UsageError(f"{folder}: to choose its token cache, DPOTrainer(tokenizer=...) is needed.")
        cache = training_tokens(
            folder, model=str(self.tokenizer.name_or_path), tokenizer=self.tokenizer, key=None, cache_dir=None,
            options=self.options, unit=self.truncation_unit,
        )  # fmt: skip
        splits = cache.dataset()
        if split not in splits:
            raise UsageError(f"{folder}: it has no {split} split, only {', '.join(splits)}.")
        return PairRows(splits[split], f"{folder} {split}")


#: Rows tokenized in one call.
_ENCODED_ROWS = 512


class _PairTokenizer:
    """Tokenizes text pairs and conversations in memory, by the same rules as a token cache."""

    def __init__(self, tokenizer: Any, options: TokenOptions, name: str) -> None:
        self._tokenizer = tokenizer
        self._given = options
        self._of_form: dict[Form, tuple[Encoder, TokenOptions]] = {}
        self._said: set[str] = set()
        self.name = name

    def encode(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """Encode all pairs of a dataset; those without a training signal are dropped, and counted in a warning."""
        batches = [
            self._encode(dataset[start : start + _ENCODED_ROWS], start)
            for start in range(0, len(dataset), _ENCODED_ROWS)
        ]
        counts = TokenCounts.total([batch.counts for batch in batches])
        if counts.dropped:
            warnings.warn(
                f"{self.name}: {sum(counts.dropped.values())} of {len(dataset)} pairs are dropped: {_reasons(counts)}.",
                stacklevel=2,
            )
        self._say(counts)
        return datasets.Dataset(pa.Table.from_batches([batch.rows for batch in batches]))

    def encode_columns(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Encode a batch of columns, as datasets.IterableDataset.map passes it."""
        batch = self._encode(columns, 0)
        self._say(batch.counts)
        encoded: dict[str, list[Any]] = batch.rows.select(list(TOKEN_COLUMNS)).to_pydict()
        return encoded

    def _say(self, counts: TokenCounts) -> None:
        """Log what the chat template does with the pairs, each kind once."""
        new = {code: remark for code, remark in counts.remarks.items() if code not in self._said}
        self._said |= new.keys()
        for line in remark_lines(counts.model_copy(update={"remarks": new, "seams": 0})):
            _log.warning("%s: %s", self.name, line)

    def _encode(self, columns: dict[str, list[Any]], start: int) -> TokenBatch:
        """Encode columns of rows, the first of which is row `start` of the dataset."""
        form: Form = "text" if isinstance(columns["prompt"][0], str) else "conversational"
        if form not in self._of_form:
            self._of_form[form] = load_encoder(self._tokenizer, form, self._given, data=self.name)
        encoder, options = self._of_form[form]
        rows = self._carried(columns, start)
        if form == "text":
            encoded = self._encode_texts(encoder, columns, start)
        else:
            encoded = self._encode_conversations(encoder, columns, start, options)
        return truncate_and_build(rows, encoded, options, encoder.bos_token_id, token_schema(rows.schema))

    def _carried(self, columns: dict[str, list[Any]], start: int) -> pa.RecordBatch:
        """Return the columns that rows of token ids have besides the ids."""
        count = len(columns["prompt"])
        schema = pair_schema("text", PairColumns(scores={"chosen_score", "rejected_score"} <= set(columns)))
        carried = pa.schema([schema.field(name) for name in carried_columns(schema)])
        origins = [f"{self.name}, row {start + row}" for row in range(count)]
        defaults: dict[str, list[Any]] = {"origin": origins, "margin": [None] * count}
        values = {name: columns.get(name, defaults.get(name, [""] * count)) for name in carried.names}
        try:
            return pa.RecordBatch.from_pydict(values, schema=carried)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(f"{self.name}: {', '.join(carried.names)} are numbers and strings: {error}") from error

    def _encode_texts(self, encoder: Encoder, columns: dict[str, list[Any]], start: int) -> EncodedPairs:
        for field in FIELDS:
            for row, value in enumerate(columns[field], start):
                if not isinstance(value, str):
                    raise self._error(row, f"{field} is {reprlib.repr(value)}")
        return encoder.encode_texts(Texts(columns["prompt"], columns["chosen"], columns["rejected"]))

    def _encode_conversations(
        self, encoder: Encoder, columns: dict[str, list[Any]], start: int, options: TokenOptions
    ) -> EncodedPairs:
        prompts, chosen, rejected = (self._messages(field, columns[field], start) for field in FIELDS)
        tools, arguments = columns.get("tools"), columns.get("chat_template_kwargs")
        return encode_conversations(encoder, ConversationColumns(prompts, chosen, rejected, tools, arguments), options)

    def _messages(self, field: str, values: Sequence[Any], start: int) -> list[list[dict[str, Any]]]:
        """Return the messages of a field, with the roles of chat templates, as `dpo-data convert` reads them."""
        found = []
        for row, value in enumerate(values, start):
            try:
                of_row = messages(value, field)
            except RowError as error:
                raise self._error(row, error.message.removesuffix(".")) from error
            found.append([message.model_dump(exclude_none=True) for message in of_row])
        return found

    def _error(self, row: int, what: str) -> UsageError:
        return UsageError(
            f"{self.name}, row {row}: prompt, chosen and rejected are all text or all lists of messages with role and "
            f"content, which is text; {what}."
        )


def _reasons(counts: TokenCounts) -> str:
    """Return the reasons that pairs are dropped for, with the chat template's own messages."""
    return ", ".join(
        f"{reason} {pairs}" + (f" ({counts.refusals[reason]})" if reason in counts.refusals else "")
        for reason, pairs in sorted(counts.dropped.items())
    )
