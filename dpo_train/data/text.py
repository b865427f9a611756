"""Rows of text or messages given in memory, tokenized and truncated."""

import logging
import numbers
import reprlib
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from dpo_data.errors import RowError, UsageError, argument
from dpo_data.options import Form
from dpo_data.prepared.schema import TOKEN_COLUMNS, token_schema
from dpo_data.records import FIELDS
from dpo_data.sources.messages import messages
from dpo_data.tokens.build import ConversationColumns, TokenBatch, encode_conversations, truncate_and_build
from dpo_data.tokens.cache import load_encoder
from dpo_data.tokens.encoder import EncodedPairs, Encoder, Texts
from dpo_data.tokens.manifest import TokenCounts
from dpo_data.tokens.options import TokenOptions, token_options
from dpo_data.tokens.remarks import remark_lines
from dpo_train.data.caches import training_tokens
from dpo_train.data.prompts import has_implicit_prompts, with_prompts
from dpo_train.data.rows import GIVEN_LOGPS, SCORES, PairRows, no_pairs
from dpo_train.data.streams import token_stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowReader:
    """Reads a dataset as rows of token ids; lengths in tokens, None for defaults of `dpo_data.tokenize`.

    `check` raises UsageError for pairs that cannot be used, when an iterable dataset yields them.
    """

    tokenizer: Any = None
    max_length: int | None = None
    max_prompt_length: int | None = None
    truncation_mode: str = "keep_end"
    truncation_unit: str = "token"
    keep_system: bool | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    template_date: str | None = None
    check: Callable[[PairRows], None] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from the defaults, by their names in `dpo_data.tokenize`."""
        defaults = {"truncation_mode": "keep_end", "truncation_unit": "token"}
        names = [field.name for field in fields(self) if field.name not in ("tokenizer", "check")]
        return {name: getattr(self, name) for name in names if getattr(self, name) != defaults.get(name)}

    def __call__(self, data: Any, *, name: str, split: str, weights: str | None = None) -> Any:
        """Return a dataset as rows of token ids; text is tokenized.

        Args:
            data: a datasets.Dataset or IterableDataset of prompt, chosen and rejected (text, or lists of messages; with
                tools and chat_template_kwargs) or of prompt_ids, chosen_ids and rejected_ids; the path of a prepared
                folder; or several of these by name.
            name: name of the dataset in error messages.
            split: split of a prepared folder.
            weights: column with the weights of the pairs; None for 1.

        Returns: `PairRows`; a datasets.IterableDataset of the same rows for an iterable one; a dict of these for a
            dict.

        Raises:
            UsageError: columns are missing, text has no tokenizer, or truncation is requested for token ids.
        """
        if data is None or isinstance(data, PairRows):
            return data
        if isinstance(data, Mapping):
            return {
                key: self(value, name=f"{name} {key!r}", split=split, weights=weights) for key, value in data.items()
            }
        if isinstance(data, str | Path):
            return self._rows_of_folder(Path(data), split, weights)
        if not isinstance(data, datasets.Dataset | datasets.IterableDataset):
            raise UsageError(
                f"{name}: expected a datasets.Dataset or IterableDataset, or the path of a prepared folder; "
                f"this is a {type(data).__name__}.\n  datasets.Dataset.from_list(rows) makes a dataset from a list, "
                "from_pandas(frame) from a table of pandas."
            )
        data, is_stream = _unformatted(data), isinstance(data, datasets.IterableDataset)
        columns = data.column_names or list(next(iter(data), {}))
        if set(TOKEN_COLUMNS) <= set(columns):
            return self._token_rows(data, name, columns, weights)
        missing = [column for column in FIELDS if column not in columns and column != "prompt"]
        if missing:
            raise UsageError(
                f"{name}: no column {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}.\n"
                f"  A pair has {', '.join(FIELDS)} (text or messages), or {', '.join(TOKEN_COLUMNS)}."
            )
        if self.tokenizer is None:
            raise UsageError(f"{name}: text needs DPOTrainer(tokenizer=...).")
        if weights is not None and weights not in columns:
            raise UsageError(f"{name}: there is no such column; it has {', '.join(columns)}.", "pair_weights", weights)
        options = token_options(**{"truncation_unit": self.truncation_unit, **self.options})
        pairs = _PairTokenizer(self.tokenizer, options, name, weights)
        if not is_stream:
            if len(data) == 0:
                raise no_pairs(name)
            return PairRows(pairs.encode(data), name, weights)
        encoded = data.map(
            pairs.encode_columns, with_indices=True, batched=True, batch_size=_ENCODED_ROWS, remove_columns=columns
        )
        return token_stream(encoded, name, [*TOKEN_COLUMNS, *pairs.carried(columns)], weights, self.check)

    def _token_rows(self, data: Any, name: str, columns: list[str], weights: str | None) -> Any:
        if self.options:
            raise UsageError(
                f"{name}: it is tokenized already, so {', '.join(self.options)} has no effect; leave it out."
            )
        if isinstance(data, datasets.IterableDataset):
            return token_stream(data, name, columns, weights, self.check)
        if data.format["type"] == "custom":
            raise UsageError(f"{name}: token ids are read without its transform; apply that with map before.")
        return PairRows(data, name, weights)

    def _rows_of_folder(self, folder: Path, split: str, weights: str | None) -> PairRows:
        if self.tokenizer is None:
            raise UsageError(f"{folder}: to choose its token cache, DPOTrainer(tokenizer=...) is needed.")
        cache = training_tokens(
            folder, model=str(self.tokenizer.name_or_path), tokenizer=self.tokenizer, key=None, cache_dir=None,
            options=self.options, unit=self.truncation_unit,
        )  # fmt: skip
        splits = cache.dataset()
        if split not in splits:
            raise UsageError(f"{folder}: it has no {split} split, only {', '.join(splits)}.")
        return PairRows(splits[split], f"{folder} {split}", weights)


def has_text(*data: Any) -> bool:
    """Return True if datasets, or some of several by name, have to be tokenized; False for None."""
    if any(isinstance(part, Mapping) and has_text(*part.values()) for part in data):
        return True
    return any(
        isinstance(part, str | Path)
        or (
            isinstance(part, datasets.Dataset | datasets.IterableDataset)
            and not set(TOKEN_COLUMNS) <= set(part.column_names or next(iter(part), {}))
        )
        for part in data
    )


def _unformatted(data: Any) -> Any:
    """Return a dataset that yields Python objects, whatever its format; a transform is kept."""
    is_transformed = isinstance(data, datasets.Dataset) and data.format["type"] == "custom"
    return data if is_transformed else data.with_format(None)


#: Column with the prompt as it was given, which callbacks generate responses to.
_PROMPT = "given_prompt"
#: Rows tokenized in one call.
_ENCODED_ROWS = 512


class _PairTokenizer:
    """Tokenizes text pairs and conversations in memory, by the same rules as a token cache."""

    def __init__(self, tokenizer: Any, options: TokenOptions, name: str, weights: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._given = options
        self._of_form: dict[Form, tuple[Encoder, TokenOptions]] = {}
        self._said: set[str] = set()
        self._weights = weights
        self._dropped: TokenCounts | None = None
        self._next_warning = 1
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
        if (counts.prompts_cut or counts.responses_cut) and (given := set(GIVEN_LOGPS) & {*dataset.column_names}):
            raise UsageError(
                f"{self.name}: {' and '.join(sorted(given))} belong to whole responses, but "
                f"{counts.prompts_cut + counts.responses_cut:,} prompts and responses are truncated; raise "
                f"{argument('max_length')}"
            )
        self._say(counts)
        table = pa.Table.from_batches([batch.rows for batch in batches])
        names = ["prompt" if name == _PROMPT else name for name in table.column_names]
        return datasets.Dataset(table.replace_schema_metadata(None).rename_columns(names))

    def encode_columns(self, columns: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        """Encode a batch of columns and the numbers of their rows, as datasets.IterableDataset.map passes them.

        Dropped pairs are counted in a warning, the first one and whenever their number has ten times as many.
        """
        batch = self._encode(columns, rows[0])
        self._say(batch.counts)
        read_before = [self._dropped] if self._dropped is not None and rows[0] else []  # in this epoch
        self._dropped = TokenCounts.total([*read_before, batch.counts])
        if (dropped := sum(self._dropped.dropped.values())) >= self._next_warning:
            self._next_warning = 10 ** len(str(dropped))
            read = self._dropped.pairs_read
            warnings.warn(
                f"{self.name}: {dropped:,} of the first {read:,} pairs are dropped: {_reasons(self._dropped)}.",
                stacklevel=2,
            )
        encoded: dict[str, list[Any]] = batch.rows.to_pydict()
        return encoded

    def carried(self, columns: Collection[str]) -> list[str]:
        """Return the columns that rows of token ids have besides the ids, given those of the dataset."""
        scores = SCORES if set(SCORES) <= set(columns) else ()
        kept = [name for name in ("prompt_key", *GIVEN_LOGPS) if name in columns]
        weights = [self._weights] if self._weights is not None and self._weights not in scores else []
        return [*scores, *weights, *kept, "id", "origin", _PROMPT]

    def _say(self, counts: TokenCounts) -> None:
        """Log what the chat template does with the pairs, each kind once."""
        new = {code: remark for code, remark in counts.remarks.items() if code not in self._said}
        self._said |= new.keys()
        for line in remark_lines(counts.model_copy(update={"remarks": new, "seams": 0})):
            _log.warning("%s: %s", self.name, line)

    def _encode(self, columns: dict[str, list[Any]], start: int) -> TokenBatch:
        """Encode columns of rows, the first of which is row `start` of the dataset."""
        columns = self._with_prompts(columns, start)
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

    def _with_prompts(self, columns: dict[str, list[Any]], start: int) -> dict[str, list[Any]]:
        if not has_implicit_prompts(columns):
            return columns
        if "prompts" not in self._said:
            self._said.add("prompts")
            _log.warning("%s: the prompt of a pair is what both of its responses begin with.", self.name)
        return with_prompts(columns, self.name, start)

    def _carried(self, columns: Mapping[str, Sequence[Any]], start: int) -> pa.RecordBatch:
        """Return the columns that rows of token ids have besides the ids."""
        count = len(columns["chosen"])
        arrays: dict[str, pa.Array] = {}
        for name in self.carried(columns):
            values = columns.get(name, [None] * count)
            if name == _PROMPT:
                arrays[name] = pa.array(columns["prompt"])
                continue
            if name in (*SCORES, *GIVEN_LOGPS, self._weights):
                self._require(name, values, start, _is_number, "is a number")
                arrays[name] = pa.array([None if value is None else float(value) for value in values], pa.float64())
                continue
            self._require(name, values, start, _is_name, "is text or a whole number")
            names = ["" if value is None else str(value) for value in values]
            if name == "origin":
                names = [value or f"{self.name}, row {start + row}" for row, value in enumerate(names)]
            arrays[name] = pa.array(names, pa.string())
        return pa.RecordBatch.from_pydict(arrays)

    def _encode_texts(self, encoder: Encoder, columns: dict[str, list[Any]], start: int) -> EncodedPairs:
        for field in FIELDS:
            self._require(field, columns[field], start, lambda value: isinstance(value, str), _ONE_FORM)
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
                raise UsageError(f"{self.name}, row {row}: {_ONE_FORM}; {error.message}") from error
            found.append([message.model_dump(exclude_none=True) for message in of_row])
        return found

    def _require(
        self, field: str, values: Sequence[Any], start: int, is_right: Callable[[Any], bool], rule: str
    ) -> None:
        for row, value in enumerate(values, start):
            if not is_right(value):
                where = f"{self.name}, row {row}"
                if rule is _ONE_FORM:
                    raise UsageError(f"{where}: {rule}; {field} is {reprlib.repr(value)}.")
                raise UsageError(f"{where}: {field} {rule}, but here it is {reprlib.repr(value)}.")


_ONE_FORM = "prompt, chosen and rejected are all text or all lists of messages with role and content, which is text"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def _is_name(value: Any) -> bool:
    return value is None or isinstance(value, str | numbers.Integral)


def _reasons(counts: TokenCounts) -> str:
    """Return the reasons that pairs are dropped for, with the chat template's own messages."""
    return ", ".join(
        f"{reason} {pairs}" + (f" ({counts.refusals[reason]})" if reason in counts.refusals else "")
        for reason, pairs in sorted(counts.dropped.items())
    )
