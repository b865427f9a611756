"""Manifest of a token cache: its models, and the sums that must agree."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from dpo_data.options import Form
from dpo_data.prepared.files import VERSIONS
from dpo_data.prepared.manifest import Counts, FileEntry, FileName, ManifestModel, Split, require_shards, require_sum
from dpo_data.tokens.options import TokenOptions

#: Version of the token cache, part of every key: raised when older programs would misread a cache, or when the same
#: text, tokenizer and options give other ids.
TOKENS_VERSION = VERSIONS["tokens"]


class TokenizerEntry(ManifestModel):
    """The tokenizer that made the ids."""

    name: str
    hash: Annotated[str, Field(description="Hash of all that decides the ids, special tokens and template included.")]
    vocab_size: Annotated[int, Field(description="The largest id + 1.")]
    bos_token_id: int | None
    eos_token_id: int
    pad_token_id: int | None
    has_chat_template: bool = False


class Remark(ManifestModel):
    """A change to some of the pairs that are kept, such as leaving out the end of a generation prompt."""

    pairs: NonNegativeInt
    quote: Annotated[str, Field(description="The text that it is about, in the first of them.")]


class TokenCounts(ManifestModel):
    """Counts of the pairs of one split or shard."""

    pairs_read: NonNegativeInt
    pairs: NonNegativeInt
    dropped: Annotated[Counts, Field(description="Reason to number of pairs.")]
    prompts_cut: NonNegativeInt
    responses_cut: NonNegativeInt
    prompt_tokens_cut: NonNegativeInt
    response_tokens_cut: NonNegativeInt
    prompt_tokens: NonNegativeInt
    response_tokens: NonNegativeInt
    longest_pair: Annotated[NonNegativeInt, Field(description="Tokens of the longest prompt with its longer response.")]
    seams: Annotated[
        NonNegativeInt,
        Field(description="Responses that would begin with other tokens if tokenized together with their prompt."),
    ]
    turns_dropped: NonNegativeInt = Field(
        default=0, description="Turns that were dropped from prompts: a user message with all that follows it."
    )
    prompts_cut_between_turns: NonNegativeInt = Field(
        default=0, description="Of prompts_cut, those that lost whole turns and nothing else."
    )
    refusals: dict[str, str] = Field(
        default={}, description="Reason to the chat template's own message for the first such pair."
    )
    remarks: dict[str, Remark] = Field(default={}, description="Code to the pairs that it was remarked on.")

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        require_sum("pairs_read", self.pairs_read, "pairs + dropped", self.pairs + sum(self.dropped.values()))
        return self

    @classmethod
    def total(cls, parts: Sequence["TokenCounts"]) -> "TokenCounts":
        """Return the counts of several parts together."""
        dropped: Counter[str] = Counter()
        refusals: dict[str, str] = {}
        remarks: dict[str, Remark] = {}
        for part in parts:
            dropped.update(part.dropped)
            refusals = part.refusals | refusals
            for code, remark in part.remarks.items():
                first = remarks.get(code, remark)
                pairs = remark.pairs + (first.pairs if code in remarks else 0)
                remarks[code] = Remark(pairs=pairs, quote=first.quote)
        summed = set(cls.model_fields) - {"dropped", "longest_pair", "refusals", "remarks"}
        return cls(
            **{name: sum(getattr(part, name) for part in parts) for name in summed},
            dropped=dict(sorted(dropped.items())),
            longest_pair=max((part.longest_pair for part in parts), default=0),
            refusals=refusals,
            remarks=dict(sorted(remarks.items())),
        )


class TokenShard(ManifestModel):
    """One Arrow file of ids, with the key of the text shard and options that it was made from."""

    key: str
    file: FileName
    counts: TokenCounts
    xxh3: Annotated[
        str | None, Field(description="XXH3 of the file, 128 bits, which dpo-train checks; null in older caches.")
    ] = None


class TokensManifest(ManifestModel):
    """Content of a token cache."""

    format: Literal["dpo-data tokens"] = "dpo-data tokens"
    version: Annotated[int, Field(ge=TOKENS_VERSION, le=TOKENS_VERSION)] = TOKENS_VERSION
    key: str
    text_hash: Annotated[str, Field(description="Hash of the text shards that the ids were made from.")]
    tokenizer: TokenizerEntry
    form: Annotated[Form | None, Field(description="Form of the pairs; null in caches that do not say.")] = None
    options: TokenOptions
    splits: dict[Split, TokenCounts]
    shards: dict[Split, list[TokenShard]]
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        if self.splits.keys() != self.shards.keys():
            named, of_shards = (", ".join(names) or "no split" for names in (self.splits, self.shards))
            raise ValueError(f"splits are {named}, but shards are of {of_shards}")
        for name, shards in self.shards.items():
            total = TokenCounts.total([shard.counts for shard in shards])
            for count, value in self.splits[name]:
                if value != getattr(total, count):
                    raise ValueError(f"{count} of {name} is {value}, but its shards give {getattr(total, count)}")
        require_shards({name: [shard.file for shard in shards] for name, shards in self.shards.items()}, self.files)
        return self
