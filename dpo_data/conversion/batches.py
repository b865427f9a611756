"""Kept rows of one chunk, as an Arrow batch."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from dpo_data.conversion.adapt import EncodedFields
from dpo_data.conversion.kept import Value, kept_column
from dpo_data.prepared.columns import hex_column, messages_column, scores_column, text_column
from dpo_data.prepared.schema import SCORES
from dpo_data.records import FIELDS, PairKeys, PreferencePair


class PairBatchBuilder:
    """Kept rows of one split, which become one Arrow batch.

    Attributes:
        keys: of the rows.
        text_bytes: of all texts.
    """

    def __init__(self, source: str) -> None:
        self.keys: list[PairKeys] = []
        self.text_bytes = 0
        self._source = source
        self._sources: list[str] = []
        self._pairs: list[PreferencePair] = []
        self._fields: list[EncodedFields] = []
        self._origins: list[str] = []
        self._metadata: list[Mapping[str, Value]] = []

    def add(
        self,
        pair: PreferencePair,
        fields: EncodedFields,
        keys: PairKeys,
        origin: str,
        metadata: Mapping[str, Value],
        source: str | None = None,
    ) -> None:
        """Append one pair with its kept metadata; `source` is its own, if it has one."""
        self._sources.append(source or self._source)
        self._pairs.append(pair)
        self._fields.append(fields)
        self.keys.append(keys)
        prompt, chosen, rejected = fields
        self.text_bytes += len(prompt) + len(chosen) + len(rejected)
        self._origins.append(origin)
        self._metadata.append(metadata)

    def extend(self, fields: Sequence[EncodedFields], keys: Sequence[PairKeys], origins: Sequence[str]) -> None:
        """Append pairs in text form, of which the schema has no scores, no tools and no metadata."""
        self._sources.extend([self._source] * len(fields))
        self._fields.extend(fields)
        self.keys.extend(keys)
        self.text_bytes += sum(len(prompt) + len(chosen) + len(rejected) for prompt, chosen, rejected in fields)
        self._origins.extend(origins)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """Return the pairs as an Arrow batch."""
        columns: dict[str, pa.Array] = {
            "source": text_column([source.encode() for source in self._sources]),
            "origin": text_column([origin.encode() for origin in self._origins]),
            "id": hex_column([keys.pair for keys in self.keys]),
            "prompt_key": hex_column([keys.prompt for keys in self.keys]),
        }
        for position, name in enumerate(FIELDS):
            if schema.field(name).type == pa.string():
                columns[name] = text_column([fields[position] for fields in self._fields])
            else:
                columns[name] = messages_column([getattr(pair, name) for pair in self._pairs], schema.field(name).type)
        for name in ("tools", "chat_template_kwargs"):
            if name in schema.names:
                texts = [getattr(pair, name, None) for pair in self._pairs]
                columns[name] = text_column([None if text is None else text.encode() for text in texts])
        for name in SCORES if "margin" in schema.names else ():
            columns[name] = scores_column([getattr(pair, name) for pair in self._pairs])
        for name in set(schema.names) - set(columns):
            columns[name] = kept_column([metadata[name] for metadata in self._metadata], schema.field(name).type)
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)
