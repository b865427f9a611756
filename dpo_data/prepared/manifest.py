"""The manifests of a prepared folder and of a token cache."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from dpo_data.options import Axis, Form, OnOverlong, TruncationMode
from dpo_data.pairing import PairingPolicy

TOKENS_VERSION = 1


MANIFEST = "manifest.json"


PARTIAL = ".partial"


class ManifestModel(BaseModel):
    """Part of a manifest."""

    # Built on first use: worker processes import these models and need one of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class FileEntry(ManifestModel):
    """A file of the folder."""

    sha256: str
    size_bytes: NonNegativeInt


class InputEntry(ManifestModel):
    """A raw file, by the name that origins use, and how many rows were read from it."""

    file: str
    split: str
    rows: NonNegativeInt


class SourceEntry(ManifestModel):
    """Where the data comes from."""

    name: str
    licence: str
    homepage: str
    direction: Annotated[str, Field(description="The rule that says which response is preferred.")]
    eval_only: Annotated[bool, Field(description="An evaluation set, not meant for training.")] = False


class ConvertOptions(ManifestModel):
    """The options that shape the content."""

    mapping: dict[str, str] = {}
    axis: Axis | None = None
    revision: Annotated[str | None, Field(description="Of the files on the hub.")] = None
    pairing: Annotated[PairingPolicy | None, Field(description="None where rows are pairs already.")] = None
    train_on_eval: bool = False
    split: str | None = None
    test_fraction: float = 0.0
    limit: int | None = None
    max_invalid: float = 0.05
    forbid: list[str] = []
    allow: list[str] = []
    redact: Annotated[bool, Field(description="Placeholders stand in the place of personal data.")] = False


class WarningCount(ManifestModel):
    """How many kept rows a check warns about, and the first few of them."""

    rows: NonNegativeInt
    examples: list[str]


class SplitEntry(ManifestModel):
    """One split: pairs kept, and rows of its raw files that went to quarantine or were left out."""

    pairs: NonNegativeInt
    quarantined: NonNegativeInt
    left_out: NonNegativeInt
    shards: list[str]


class Manifest(ManifestModel):
    """What a prepared folder holds. rows_read = rows_paired + quarantined + left_out, always."""

    format: Literal["dpo-data prepared"] = "dpo-data prepared"
    version: Literal[1] = 1
    status: Annotated[Literal["complete", "rejected"], Field(description="rejected: more than max_invalid is bad.")]
    form: Form
    source: SourceEntry
    options: ConvertOptions
    inputs: list[InputEntry]
    rows_read: NonNegativeInt
    rows_paired: Annotated[NonNegativeInt, Field(description="Raw rows that gave at least one pair.")]
    pairs: Annotated[NonNegativeInt, Field(description="One row may give several, and several rows one.")]
    quarantined: NonNegativeInt
    quarantined_by_code: dict[str, NonNegativeInt]
    left_out: Annotated[NonNegativeInt, Field(description="Sound raw rows of which the pairing policy made no pair.")]
    left_out_by_reason: dict[str, NonNegativeInt]
    pairs_left_out: Annotated[
        dict[str, NonNegativeInt], Field(description="Reason to possible pairs, or responses, that are in no pair.")
    ]
    unused_columns: Annotated[
        dict[str, NonNegativeInt], Field(description="Column that went into no pair to the rows that have it.")
    ]
    warnings: Annotated[dict[str, WarningCount], Field(description="Code of a check to what it found in kept pairs.")]
    redacted: Annotated[
        dict[str, NonNegativeInt], Field(description="Kind of personal data to its placeholders in kept pairs.")
    ] = {}
    splits: dict[str, SplitEntry]
    files: dict[str, FileEntry]


class QuarantinedRow(ManifestModel):
    """A raw row that was not kept, and why."""

    file: str
    line: Annotated[int, Field(ge=1, description="Physical line of a text file, or row number of a table.")]
    code: str
    field: str
    message: str
    hint: str
    raw: Annotated[str, Field(description="The row as it stands in the file; a table's row as JSON.")]


class TokenizerEntry(ManifestModel):
    """The tokenizer that made the ids; `hash` covers all that decides them, special tokens and chat template too."""

    name: str
    hash: str
    vocab_size: Annotated[int, Field(description="The largest id + 1.")]
    bos_token_id: int | None
    eos_token_id: int
    pad_token_id: int | None


class TokenOptions(ManifestModel):
    """The options that shape the ids; lengths in tokens."""

    max_length: int | None
    max_prompt_length: int | None
    truncation_mode: TruncationMode
    on_overlong: OnOverlong
    chat_template: Annotated[str | None, Field(description="Hash of a template given by the user.")] = None


class TokenCounts(ManifestModel):
    """What became of the pairs of one split; pairs_read = pairs + the sum of dropped."""

    pairs_read: NonNegativeInt
    pairs: NonNegativeInt
    dropped: Annotated[dict[str, NonNegativeInt], Field(description="Reason to number of pairs.")]
    prompts_cut: NonNegativeInt
    responses_cut: NonNegativeInt
    prompt_tokens_cut: NonNegativeInt
    response_tokens_cut: NonNegativeInt
    prompt_tokens: NonNegativeInt
    response_tokens: NonNegativeInt
    longest_pair: Annotated[NonNegativeInt, Field(description="Tokens of the longest prompt with its longer response.")]
    seams: Annotated[
        NonNegativeInt, Field(description="Responses that joint tokenization would have begun differently.")
    ]


class TokenShard(ManifestModel):
    """One Arrow file of ids, under the key of the text shard and the options that it was made from."""

    key: str
    file: str
    counts: TokenCounts


class TokensManifest(ManifestModel):
    """What a token cache holds."""

    format: Literal["dpo-data tokens"] = "dpo-data tokens"
    version: Literal[1] = 1
    key: str
    text_hash: Annotated[str, Field(description="Hash of the text shards that the ids were made from.")]
    tokenizer: TokenizerEntry
    options: TokenOptions
    splits: dict[str, TokenCounts]
    shards: dict[str, list[TokenShard]]
    files: dict[str, FileEntry]


AnyManifest = TypeVar("AnyManifest", Manifest, TokensManifest)
