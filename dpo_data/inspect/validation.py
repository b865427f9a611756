"""What is wrong with a prepared folder or with raw pairs, and what would happen to them in training.

Raw pairs are converted into a scratch folder first, so that both are judged by the same code.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from dpo_data.checks import (
    CHECK_HINTS,
    DATASET_CHECKS,
    DEEP_DATASET_CHECKS,
    DEEP_ROW_CHECKS,
    RowCheck,
    run_row_checks,
    select_row_checks,
)
from dpo_data.checks.contamination import contamination
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.checks.deep import DeepChecks, require_libraries
from dpo_data.checks.eos_in_response import CHECK as EOS_IN_RESPONSE
from dpo_data.checks.eos_in_response import for_tokenizer
from dpo_data.checks.row_keys import RowKeyStore, row_keys, run_dataset_checks
from dpo_data.conversion.convert import convert
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, SPLITS, Axis, Form, Progress, Severity, silent
from dpo_data.prepared.manifest import Manifest, ManifestModel
from dpo_data.prepared.quarantine import read_quarantine
from dpo_data.prepared.reader import (
    Prepared,
    damaged_files,
    is_prepared,
    origin_lookup,
    read_manifest,
    read_shard,
)
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_data.records import FIELDS, ConversationalRow, PairKeys, TextRow, pair_keys
from dpo_data.tokens.build import encode_rows
from dpo_data.tokens.cache import TokenCache, list_tokens, load_checked_tokenizer
from dpo_data.tokens.encoder import Encoder

QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


class CodeFinding(ManifestModel):
    """What one check found."""

    severity: Severity
    rows: NonNegativeInt
    hint: str
    examples: Annotated[list[str], Field(description="file:row and what is wrong there; the first few.")]


class Quantiles(ManifestModel):
    """Order statistics of one length over all pairs."""

    min: int
    p5: int
    median: int
    p95: int
    p99: int
    max: int


class TruncationCount(ManifestModel):
    """What a maximum length would do."""

    max_length: int
    pairs_cut: NonNegativeInt
    responses_cut: Annotated[NonNegativeInt, Field(description="Pairs whose longer response alone is too long.")]


class ValidationReport(ManifestModel):
    """What `dpo-data validate` found."""

    path: str
    kind: Literal["prepared", "raw"]
    form: Form
    rows_read: NonNegativeInt
    pairs: NonNegativeInt
    splits: dict[str, NonNegativeInt]
    quarantined: NonNegativeInt
    left_out: Annotated[NonNegativeInt, Field(description="Rows of which the pairing policy made no pair.")] = 0
    damage: Annotated[dict[str, str], Field(description="File to what is wrong with it.")]
    findings: Annotated[dict[str, CodeFinding], Field(description="Code of a check to what it found.")]
    characters: dict[str, Quantiles]
    tokens: dict[str, Quantiles] | None
    cut: list[TruncationCount] | None
    chosen_longer: Annotated[float | None, Field(description="Share of pairs whose chosen has more characters.")]
    token_caches: Annotated[list[str], Field(description="Keys of the token caches of this text.")]
    languages: Annotated[
        dict[str, dict[str, NonNegativeInt]] | None,
        Field(description="Of the last question, of chosen and of rejected: language, or undecided, to pairs."),
    ] = None
    personal_data: Annotated[
        dict[str, NonNegativeInt] | None, Field(description="Kind to how often it stands in the texts of the pairs.")
    ] = None

    def worst(self) -> Severity | None:
        """The gravest severity among damage and findings."""
        severities = {finding.severity for finding in self.findings.values()}
        if self.damage or "error" in severities:
            return "error"
        return "warning" if severities else None


def validate(
    path: str | Path,
    *,
    tokenizer: Any = None,
    max_lengths: Sequence[int] = DEFAULT_AUDIT_LENGTHS,
    source: str = "pairs",
    form: Form = "text",
    mapping: Mapping[str, str] | None = None,
    axis: Axis | None = None,
    input_format: str | None = None,
    chat_template: str | None = None,
    cache_dir: str | Path | None = None,
    deep: bool = False,
    against: Sequence[str | Path] = (),
    max_examples: int = MAX_EXAMPLES,
    workers: int = 1,
    progress: Progress = silent,
) -> ValidationReport:
    """Judge a prepared folder, or raw pairs in any input format.

    Args:
        path: a prepared folder, rejected ones too; or a file, folder, glob, URL or "-".
        tokenizer: name, folder or loaded tokenizer, for lengths in tokens.
        max_lengths: maximum lengths, in tokens, to count cut pairs for.
        source: of raw pairs.
        form: of raw pairs.
        mapping: of raw pairs; see `convert`.
        axis: of raw pairs; see `convert`.
        input_format: of raw pairs.
        chat_template: a Jinja template that replaces the tokenizer's; for conversational data.
        cache_dir: where the token caches of a prepared folder are, if not in itself.
        deep: run the deep checks too, and say which languages and personal data there are; needs the extra `checks`.
        against: evaluation sets whose text is looked for in the pairs; see `dpo_data.checks.contamination`.
        max_examples: examples kept of each finding.
        workers: processes that read raw pairs.
        progress: told how far it is.

    Raises:
        PreparedError: an unfinished folder, or one of another version.
        InputError, UsageError: as `convert`, and for the tokenizer as `tokenize`; an evaluation set that cannot be
            read; `deep` without its libraries.
    """
    if deep:
        require_libraries()
    more_checks = (*(DEEP_ROW_CHECKS if deep else ()), *([contamination(against)] if against else []))
    folder = Path(path)
    finished = is_prepared(folder)
    encoder = None
    if tokenizer is not None:
        data_form = read_manifest(folder).form if finished else form
        encoder = Encoder(load_checked_tokenizer(tokenizer, data_form, chat_template, data=path), chat_template)
    looks = _Looks(encoder, max_lengths, more_checks, deep, max_examples)
    if finished:
        return _validate_prepared(folder, str(path), "prepared", looks, cache_dir, progress)
    with TemporaryDirectory(prefix="dpo-data-validate-") as scratch:
        prepared = Path(scratch) / "prepared"
        convert(
            source,
            [path],
            output=prepared,
            form=form,
            mapping=mapping,
            axis=axis,
            input_format=input_format,
            max_invalid=1.0,
            workers=workers,
            progress=progress,
        )
        return _validate_prepared(prepared, str(path), "raw", looks, None, progress)


@dataclass(frozen=True)
class _Looks:
    """What is looked at beyond the checks of convert."""

    encoder: Encoder | None
    max_lengths: Sequence[int]
    more_checks: Sequence[RowCheck]
    deep: bool
    max_examples: int


def _validate_prepared(
    folder: Path,
    name: str,
    kind: Literal["prepared", "raw"],
    looks: _Looks,
    cache_dir: str | Path | None,
    progress: Progress,
) -> ValidationReport:
    manifest = read_manifest(folder)
    prepared = Prepared(folder, manifest)
    damage = damaged_files(folder, manifest.files)
    content = _Content(manifest, looks)
    encoder = looks.encoder
    deep = None
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="dpo-data-keys-")))
        store = stack.enter_context(closing(RowKeyStore(scratch / "keys")))
        if looks.deep:
            deep = stack.enter_context(closing(DeepChecks(scratch / "deep", DEEP_DATASET_CHECKS)))
        for split, entry in manifest.splits.items():
            for shard in entry.shards:
                if shard in damage:
                    continue
                for batch in read_shard(folder / shard):
                    content.add(split, batch, store, deep)
                    progress(min(1.0, content.rows / max(1, manifest.pairs)), content.rows)
        if not damage:
            origin_of = origin_lookup(folder, manifest.splits)
            content.warnings.merge(run_dataset_checks(store, DATASET_CHECKS, origin_of, looks.max_examples))
            if deep:
                content.warnings.merge(deep.findings(origin_of, looks.max_examples))
    damage |= content.damage
    quarantined, hints = _read_quarantine(folder, manifest, damage, looks.max_examples)
    if kind == "raw":
        content.errors.merge(quarantined)
    if not damage:
        damage |= _wrong_counts(manifest, content, sum(quarantined.rows.values()))
    if manifest.status == "rejected":
        damage["manifest.json"] = (
            f"says rejected: {manifest.quarantined:,} of {manifest.rows_read:,} rows are in quarantine, and no trainer "
            "takes the rest"
        )
    caches = [] if damage else list_tokens(prepared, cache_dir)
    for cache in caches:
        damage |= _token_damage(cache)
    return ValidationReport(
        path=name,
        kind=kind,
        form=manifest.form,
        rows_read=manifest.rows_read,
        pairs=manifest.pairs,
        splits={split: entry.pairs for split, entry in manifest.splits.items() if entry.pairs},
        quarantined=manifest.quarantined,
        left_out=manifest.left_out,
        damage=damage,
        findings=_findings("error", content.errors, hints) | _findings("warning", content.warnings, hints),
        characters={field: _quantiles(lengths) for field, lengths in content.characters().items() if len(lengths)},
        tokens=content.token_quantiles() if encoder else None,
        cut=content.cut(looks.max_lengths) if encoder else None,
        chosen_longer=content.chosen_longer(),
        token_caches=[cache.manifest.key for cache in caches],
        languages=deep.language_counts() if deep else None,
        personal_data=dict(sorted(deep.personal_data.items())) if deep else None,
    )


@dataclass
class _Content:
    """What the pairs of a folder say, gathered batch by batch."""

    manifest: Manifest
    looks: _Looks
    rows: int = 0
    damage: dict[str, str] = field(default_factory=dict)
    split_rows: Counter[str] = field(default_factory=Counter)
    _characters: list[NDArray[np.int64]] = field(default_factory=list)
    _tokens: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = self.manifest.options
        checks = select_row_checks(options.forbid, options.allow)
        self.encoder = self.looks.encoder
        if self.encoder is not None:
            eos = self.encoder.tokenizer.eos_token
            checks = tuple(
                for_tokenizer(check, eos) if check.code == EOS_IN_RESPONSE.code else check for check in checks
            )
        self.checks = (*checks, *self.looks.more_checks)
        self.errors = CodeCounts(self.looks.max_examples)
        self.warnings = CodeCounts(self.looks.max_examples)

    def add(self, split: str, batch: pa.RecordBatch, store: RowKeyStore, deep: DeepChecks | None) -> None:
        """Check the pairs of one batch, and take their measures."""
        row_type = TextRow if self.manifest.form == "text" else ConversationalRow
        pairs = [row_type.model_validate(row) for row in batch.to_pylist()]
        keys = [pair_keys(pair) for pair in pairs]
        self._check_ids(split, batch, keys)
        for pair, origin in zip(pairs, batch.column("origin").to_pylist(), strict=True):
            for check, finding in run_row_checks(pair, self.checks):
                counts = self.errors if check.severity == "error" else self.warnings
                counts.add(check.code, [f"{origin}: {finding.message}"])
        table = row_keys(keys, SPLITS.index(split))
        table["index"] += self.split_rows[split]
        self.split_rows[split] += len(pairs)
        self.rows += len(pairs)
        store.add(table)
        if deep is not None:
            deep.add(pairs, table)
        self._characters.append(np.array([[len(text) for text in pair.texts] for pair in pairs]).T)
        if self.encoder is not None:
            encoded, refused = encode_rows(self.encoder, self.manifest.form, batch)
            lengths = np.stack([encoded.prompts.lengths, encoded.chosen.lengths, encoded.rejected.lengths])
            self._tokens.append(np.delete(lengths, list(refused), axis=1))

    def _check_ids(self, split: str, batch: pa.RecordBatch, keys: list[PairKeys]) -> None:
        stored = zip(batch.column("id").to_pylist(), batch.column("prompt_key").to_pylist(), strict=True)
        for row, (ids, key) in enumerate(zip(stored, keys, strict=True)):
            if ids != (key.pair.hex(), key.prompt.hex()):
                origin = batch.column("origin")[row]
                self.damage[split] = f"{origin}: id or prompt_key does not fit the text; the row was changed"

    def characters(self) -> dict[str, NDArray[np.int64]]:
        lengths = np.concatenate(self._characters, axis=1) if self._characters else np.empty((3, 0), np.int64)
        return dict(zip(FIELDS, lengths, strict=True))

    def token_quantiles(self) -> dict[str, Quantiles]:
        prompt, chosen, rejected = self._token_lengths()
        if not len(prompt):
            return {}
        sides = {
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "pair": prompt + np.maximum(chosen, rejected),
        }
        return {side: _quantiles(lengths) for side, lengths in sides.items()}

    def _token_lengths(self) -> NDArray[np.int64]:
        """(3, N): tokens of prompt, chosen and rejected of the pairs that the chat template takes."""
        return np.concatenate([np.empty((3, 0), np.int64), *self._tokens], axis=1)

    def cut(self, max_lengths: Sequence[int]) -> list[TruncationCount]:
        prompt, chosen, rejected = self._token_lengths()
        if not len(prompt):
            return []
        longer = np.maximum(chosen, rejected)
        return [
            TruncationCount(
                max_length=limit,
                pairs_cut=int((prompt + longer > limit).sum()),
                responses_cut=int((longer >= limit).sum()),
            )
            for limit in max_lengths
        ]

    def chosen_longer(self) -> float | None:
        lengths = self.characters()
        return float((lengths["chosen"] > lengths["rejected"]).mean()) if len(lengths["chosen"]) else None


def _quantiles(lengths: NDArray[np.int64]) -> Quantiles:
    values = np.quantile(lengths, list(QUANTILES.values()), method="inverted_cdf")
    return Quantiles(**{name: int(value) for name, value in zip(QUANTILES, values, strict=True)})


def _findings(severity: Severity, counts: CodeCounts, hints: Mapping[str, str]) -> dict[str, CodeFinding]:
    return {
        code: CodeFinding(severity=severity, rows=rows, hint=hints[code], examples=examples)
        for code, (rows, examples) in counts.in_order(CHECK_HINTS).items()
    }


def _read_quarantine(
    folder: Path, manifest: Manifest, damage: Mapping[str, str], max_examples: int
) -> tuple[CodeCounts, dict[str, str]]:
    """The rows in quarantine by code, and the hint of every code."""
    counts = CodeCounts(max_examples)
    hints = dict(CHECK_HINTS)
    for row in read_quarantine(folder, [name for name in manifest.files if name not in damage]):
        counts.add(row.code, [f"{row.file}:{row.line}: {row.message}"])
        hints[row.code] = row.hint
    return counts, hints


def _wrong_counts(manifest: Manifest, content: _Content, quarantined: int) -> dict[str, str]:
    """Counts of the manifest that its own files contradict."""
    wrong = {
        split: f"has {content.split_rows[split]:,} pairs, and the manifest says {entry.pairs:,}"
        for split, entry in manifest.splits.items()
        if content.split_rows[split] != entry.pairs
    }
    if quarantined != manifest.quarantined:
        wrong["quarantine"] = f"has {quarantined:,} rows, and the manifest says {manifest.quarantined:,}"
    return wrong


def _token_damage(cache: TokenCache) -> dict[str, str]:
    """What is wrong with a token cache: its bytes, and ids that no trainer could use."""
    damage = {
        f"tokens/{cache.path.name}/{name}": text
        for name, text in damaged_files(cache.path, cache.manifest.files).items()
    }
    if damage:
        return damage
    vocab_size = cache.manifest.tokenizer.vocab_size
    for shards in cache.manifest.shards.values():
        for shard in shards:
            rows = 0
            for batch in read_shard(cache.path / shard.file):
                rows += batch.num_rows
                for name in TOKEN_COLUMNS:
                    ids = batch.column(name)
                    values = ids.flatten().to_numpy()
                    if batch.num_rows and pc.min(pc.list_value_length(ids)).as_py() == 0:
                        damage[f"tokens/{cache.path.name}/{shard.file}"] = f"has an empty {name}"
                    if len(values) and not 0 <= values.min() <= values.max() < vocab_size:
                        damage[f"tokens/{cache.path.name}/{shard.file}"] = f"has ids in {name} outside the vocabulary"
            if rows != shard.counts.pairs:
                damage[f"tokens/{cache.path.name}/{shard.file}"] = f"has {rows:,} pairs, not {shard.counts.pairs:,}"
    return damage
