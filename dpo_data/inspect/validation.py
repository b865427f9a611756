"""Integrity and findings of a prepared folder or of raw pairs.

Raw pairs are first converted into a scratch folder, so that both are judged by the same code. Lengths and truncation
come from `dpo_data.inspect.statistics`.
"""

import datetime
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple, Self

import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt, model_validator

from dpo_data.checks import CHECK_HINTS, DEEP_DATASET_CHECKS
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.checks.deep import DeepChecks
from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.conversion.convert import run
from dpo_data.conversion.plan import make_plan
from dpo_data.escapes import without_secrets
from dpo_data.inspect.batches import Observer, read_pairs
from dpo_data.inspect.findings import ExtraChecks, Findings, extra_checks
from dpo_data.inspect.statistics.lengths import LengthStatistics
from dpo_data.inspect.statistics.models import Distribution
from dpo_data.inspect.verdict import LEAKS, CodeFinding, Verdict, judge, write_findings
from dpo_data.options import (
    DEFAULT_AUDIT_LENGTHS,
    DEFAULT_MAX_INVALID,
    Axis,
    Form,
    FormChoice,
    Progress,
    Severity,
    silent,
)
from dpo_data.prepared.manifest import Manifest, ManifestModel
from dpo_data.prepared.quarantine import read_quarantine
from dpo_data.prepared.reader import Prepared, damaged_files, is_prepared, read_manifest, read_shard
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_data.records import FIELDS
from dpo_data.tokens.cache import TokenCache, all_tokens, list_tokens, load_encoder
from dpo_data.tokens.comparison import TokenComparison, compare_tokens
from dpo_data.tokens.encoder import Encoder
from dpo_data.tokens.options import TokenOptions, token_options
from dpo_data.tokens.reader import damaged_manifests
from dpo_data.tokens.refusals import REFUSAL_HINT, REFUSALS


class Quantiles(ManifestModel):
    """Order statistics of one length over all pairs."""

    min: int
    p5: int
    median: int
    p95: int
    p99: int
    max: int


class TruncationCount(ManifestModel):
    """Pairs that a maximum length would truncate."""

    max_length: int
    pairs_cut: NonNegativeInt
    responses_cut: Annotated[NonNegativeInt, Field(description="Pairs whose longer response alone is too long.")]


class ValidationReport(ManifestModel):
    """Result of `dpo-data validate`."""

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
    token_comparisons: Annotated[
        dict[str, TokenComparison] | None,
        Field(description="Key of a token cache to how its ids compare with tokenizers; null without deep checks."),
    ] = None
    languages: Annotated[
        dict[str, dict[str, NonNegativeInt]] | None,
        Field(description="For the last user turn, chosen and rejected: language, or undecided, to pairs."),
    ] = None
    personal_data: Annotated[
        dict[str, NonNegativeInt] | None, Field(description="Kind to its occurrences in the texts of the pairs.")
    ] = None
    verdict: Annotated[
        Verdict | None, Field(description="Whether the data is fit to train on; null only before it is computed.")
    ] = None

    @model_validator(mode="after")
    def _judge(self) -> Self:
        if self.verdict is None:
            verdict = judge(rows=self.rows_read, pairs=self.pairs, damage=self.damage, findings=self.findings)
            object.__setattr__(self, "verdict", verdict)  # the model is frozen
        return self

    def worst(self) -> Severity | None:
        """Return the highest severity among damage and findings."""
        severities = {finding.severity for finding in self.findings.values()}
        if self.damage or "error" in severities:
            return "error"
        return "warning" if severities else None

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import validation

        return validation(self)


def validate(
    path: str | Path,
    *,
    tokenizer: Any = None,
    max_lengths: Sequence[int] = DEFAULT_AUDIT_LENGTHS,
    source: str = "pairs",
    form: FormChoice = "auto",
    mapping: Mapping[str, str] | None = None,
    axis: Axis | None = None,
    input_format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    template_date: datetime.date | str | None = None,
    cache_dir: str | Path | None = None,
    deep: bool = False,
    against: Sequence[str | Path] = (),
    max_examples: int = MAX_EXAMPLES,
    findings: str | Path | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> ValidationReport:
    """Check a prepared folder, or raw pairs in any input format.

    Args:
        path: a prepared folder, also a rejected one; or a file, folder, glob, URL or "-".
        tokenizer: name, folder or loaded tokenizer, for lengths in tokens.
        max_lengths: maximum lengths, in tokens, to count truncated pairs for; reported in ascending order.
        source: of raw pairs.
        form: of raw pairs; see `convert`.
        mapping: of raw pairs; see `convert`.
        axis: of raw pairs; see `convert`.
        input_format: of raw pairs.
        encoding: of raw pairs; see `convert`.
        delimiter: of raw pairs; see `convert`.
        chat_template: a Jinja template that replaces the tokenizer's; for conversational data.
        chat_template_kwargs: see `tokenize`.
        template_date: see `tokenize`.
        cache_dir: where the token caches of a prepared folder are, if not in the folder.
        deep: run the deep checks too, count languages and personal data, and compare the ids of all token caches with
            those of the library tokenizers; needs the extra `checks`.
        against: evaluation sets whose text is searched for in the pairs; see `dpo_data.checks.contamination`.
        max_examples: examples to keep of each finding.
        findings: file to write every finding to, as JSON Lines with the id of its pair.
        workers: processes that read raw pairs.
        progress: called with the share of the work that is done, and the number of rows.

    Raises:
        PreparedError: an unfinished folder, or one of another version.
        InputError, UsageError: as `convert`, and for the tokenizer as `tokenize`; lengths that leave no room for a
            prompt or a response; an evaluation set that cannot be read; `deep` without its libraries.
    """
    kept_examples = max_examples if findings is None else sys.maxsize
    checks = extra_checks(deep, against, kept_examples)
    folder = Path(path)
    finished = is_prepared(folder)
    encoder, lengths = None, LengthStatistics()
    options = token_options(
        chat_template=chat_template, chat_template_kwargs=chat_template_kwargs, template_date=template_date
    )

    def prepare_lengths(target: Prepared | Form) -> None:
        nonlocal encoder, lengths
        encoder, _ = open_encoder(tokenizer, target, options, chat_template, data=path, cache_dir=cache_dir)
        lengths = LengthStatistics(encoder, max_lengths)

    if finished:
        prepare_lengths(Prepared(folder, read_manifest(folder)))
    with TemporaryDirectory(prefix="dpo-data-validate-") as scratch:
        if not finished:
            folder = Path(scratch) / "prepared"
            plan = make_plan(
                source,
                [path],
                form=form,
                mapping=mapping,
                axis=axis,
                input_format=input_format,
                encoding=encoding,
                delimiter=delimiter,
                max_invalid=1.0,
            )
            run(plan, output=folder, workers=workers, progress=progress, on_form=prepare_lengths)
        prepared = Prepared(folder, read_manifest(folder))
        with read_folder(prepared, checks, lengths, encoder, progress) as found:
            report = validation_report(
                prepared,
                found,
                lengths,
                path=without_secrets(str(path)),
                raw=not finished,
                max_examples=kept_examples,
                cache_dir=cache_dir if finished else None,
                compare=partial(
                    compare_tokens,
                    prepared=prepared,
                    tokenizer=encoder and encoder.tokenizer,
                    chat_template=chat_template,
                )
                if deep
                else None,
            )
    if findings is None:
        return report
    write_findings(Path(findings), report.findings)
    clipped = {code: finding.with_examples(max_examples) for code, finding in report.findings.items()}
    return report.model_copy(update={"findings": clipped})


def open_encoder(
    tokenizer: Any,
    target: Prepared | Form,
    options: TokenOptions,
    chat_template: str | None = None,
    *,
    data: str | Path,
    cache_dir: str | Path | None = None,
) -> tuple[Encoder | None, TokenOptions]:
    """Return the encoder of a tokenizer that fits the data, None without a tokenizer; and the options with its date.

    Args:
        tokenizer: name, folder or loaded tokenizer.
        target: a prepared folder, or the form of raw pairs.
        options: of tokenization.
        chat_template: given by the user.
        data: name of the data in messages.
        cache_dir: where the folder's token caches are, if not in the folder.

    Raises: InputError, UsageError: as `tokenize`.
    """
    if tokenizer is None:
        return None, options
    form = target.manifest.form if isinstance(target, Prepared) else target
    caches = all_tokens(target, cache_dir) if isinstance(target, Prepared) else ()
    return load_encoder(tokenizer, form, options, chat_template, data=data, caches=caches)


class FolderPass(NamedTuple):
    """Result of one pass over the shards of a prepared folder.

    Attributes:
        damage: file of the folder that is missing or changed to what is wrong with it; its pairs were not read.
        findings: findings of the checks.
        deep: the deep checks; None if they are not wanted.
        keys: keys of all pairs, on disk.
    """

    damage: dict[str, str]
    findings: Findings
    deep: DeepChecks | None
    keys: RowKeyStore


@contextmanager
def read_folder(
    prepared: Prepared,
    checks: ExtraChecks,
    observer: Observer,
    encoder: Encoder | None = None,
    progress: Progress = silent,
) -> Iterator[FolderPass]:
    """Hash the files of a prepared folder, then check its pairs in one pass that `observer` sees too.

    Args:
        prepared: the folder; may be a rejected one.
        checks: checks beyond those of `convert`.
        observer: sees every batch of pairs.
        encoder: adds token ids to the batches.
        progress: called with the share of pairs that were read, and their number.
    """
    damage = damaged_files(prepared.path, prepared.manifest.files)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="dpo-data-keys-")))
        keys = stack.enter_context(closing(RowKeyStore(scratch / "keys")))
        deep = stack.enter_context(closing(DeepChecks(scratch / "deep", DEEP_DATASET_CHECKS))) if checks.deep else None
        findings = Findings(prepared, checks, encoder, deep)
        read_pairs(prepared, [findings, observer], keys=keys, encoder=encoder, skip=damage, progress=progress)
        if not damage:
            findings.check_dataset(keys)
        yield FolderPass(damage, findings, deep, keys)


def validation_report(
    prepared: Prepared,
    found: FolderPass,
    lengths: LengthStatistics,
    *,
    path: str,
    raw: bool = False,
    max_examples: int = MAX_EXAMPLES,
    cache_dir: str | Path | None = None,
    compare: Callable[[TokenCache], tuple[TokenComparison, dict[str, str]]] | None = None,
) -> ValidationReport:
    """Return the report on a prepared folder after a pass over it, adding what its other files say.

    Args:
        prepared: the folder.
        found: the result of `read_folder`.
        lengths: the lengths of its pairs.
        path: path to name in the report.
        raw: the folder was converted from raw pairs at `path`: its rows in quarantine are findings.
        max_examples: examples to keep of each finding in quarantine.
        cache_dir: where the token caches are, if not in the folder.
        compare: `compare_tokens`, called with every undamaged token cache; None compares none.
    """
    manifest, findings, deep = prepared.manifest, found.findings, found.deep
    damage = found.damage | findings.damage
    quarantined, hints = _read_quarantine(prepared.path, manifest, damage, max_examples)
    if raw:
        findings.errors.merge(quarantined)
    if not damage:
        damage |= _wrong_counts(manifest, findings, sum(quarantined.rows.values()))
    if manifest.status == "rejected":
        damage["manifest.json"] = (
            f"says rejected: {manifest.quarantined:,} of {manifest.rows_read:,} rows are in quarantine, and no trainer "
            "accepts the rest"
        )
    for code in findings.errors.rows.keys() & findings.warnings.rows.keys():
        findings.errors.add(code, findings.warnings.examples.pop(code), findings.warnings.rows.pop(code))
    over_limit = findings.refused.rows.total() > DEFAULT_MAX_INVALID * manifest.pairs
    (findings.errors if over_limit else findings.warnings).merge(findings.refused)
    caches = [] if damage else list_tokens(prepared, cache_dir)
    damage |= damaged_manifests(prepared, cache_dir)
    comparisons: dict[str, TokenComparison] | None = None if compare is None else {}
    for cache in caches:
        of_cache = _token_damage(cache)
        if comparisons is not None and compare is not None and not of_cache:
            comparisons[cache.path.name], of_cache = compare(cache)
        damage |= {f"tokens/{cache.path.name}/{name}": text for name, text in of_cache.items()}
    return ValidationReport(
        path=path,
        kind="raw" if raw else "prepared",
        form=manifest.form,
        rows_read=manifest.rows_read,
        pairs=manifest.pairs,
        splits={split: entry.pairs for split, entry in manifest.splits.items() if entry.pairs},
        quarantined=manifest.quarantined,
        left_out=manifest.left_out,
        damage=damage,
        findings=_code_findings("error", findings.errors, hints, findings.pairs)
        | _code_findings("warning", findings.warnings, hints, findings.pairs),
        token_caches=[cache.manifest.key for cache in caches],
        token_comparisons=comparisons,
        languages=deep.language_counts() if deep else None,
        personal_data=dict(sorted(deep.personal_data.items())) if deep else None,
        **_length_fields(lengths),
    )


def _length_fields(lengths: LengthStatistics) -> dict[str, Any]:
    """Return the fields of the report that the statistics fill."""
    characters, tokens, difference, truncation = (
        lengths.characters, lengths.tokens, lengths.difference, lengths.truncation,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "characters": {},
        "tokens": None if lengths.tokenizer is None else {},
        "cut": None if lengths.tokenizer is None else [],
        "chosen_longer": None,
    }
    if characters is not None:
        fields["characters"] = {side: _quantiles(getattr(characters, side)) for side in FIELDS}
    if difference is not None:
        fields["chosen_longer"] = difference.chosen_longer / difference.difference.count
    if tokens is not None:
        fields["tokens"] = {side: _quantiles(getattr(tokens, side)) for side in (*FIELDS, "pair")}
    if truncation is not None:
        fields["cut"] = [
            TruncationCount(
                max_length=entry.max_length, pairs_cut=entry.pairs_cut, responses_cut=entry.responses_too_long
            )
            for entry in truncation.results()
            if entry.truncation_mode == "keep_end"
        ]
    return fields


def _quantiles(lengths: Distribution) -> Quantiles:
    return Quantiles(**{name: int(getattr(lengths, name)) for name in Quantiles.model_fields})


def _code_findings(
    severity: Severity, counts: CodeCounts, hints: Mapping[str, str], pairs: Mapping[str, int]
) -> dict[str, CodeFinding]:
    """Return the findings of a severity; `pairs` has the number of pairs of each split."""
    return {
        code: CodeFinding(
            severity=severity,
            rows=rows,
            hint=hints[code],
            examples=examples,
            ids=counts.ids.get(code, []),
            share_of_test=rows / pairs["test"] if code in LEAKS else None,
        )
        for code, (rows, examples) in counts.in_order(CHECK_HINTS).items()
    }


def _read_quarantine(
    folder: Path, manifest: Manifest, damage: Mapping[str, str], max_examples: int
) -> tuple[CodeCounts, dict[str, str]]:
    """Return the rows in quarantine by code, and the hint of every code."""
    counts = CodeCounts(max_examples)
    hints = CHECK_HINTS | {code: f"{meaning.capitalize()}. {REFUSAL_HINT}" for code, meaning in REFUSALS.items()}
    for row in read_quarantine(folder, [name for name in manifest.files if name not in damage]):
        counts.add(row.code, [f"{row.file}:{row.line}: {row.message}"])
        hints[row.code] = row.hint
    return counts, hints


def _wrong_counts(manifest: Manifest, findings: Findings, quarantined: int) -> dict[str, str]:
    """Return counts of the manifest that its own files contradict."""
    wrong = {
        split: f"has {findings.pairs[split]:,} pairs, but the manifest says {entry.pairs:,}"
        for split, entry in manifest.splits.items()
        if findings.pairs[split] != entry.pairs
    }
    if quarantined != manifest.quarantined:
        wrong["quarantine"] = f"has {quarantined:,} rows, but the manifest says {manifest.quarantined:,}"
    return wrong


def _token_damage(cache: TokenCache) -> dict[str, str]:
    """Return the files of a token cache with what is wrong with them: their bytes, or ids that no trainer could use."""
    damage = damaged_files(cache.path, cache.manifest.files)
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
                        damage[shard.file] = f"has an empty {name}"
                    if len(values) and not 0 <= values.min() <= values.max() < vocab_size:
                        damage[shard.file] = f"has ids in {name} outside the vocabulary"
            if rows != shard.counts.pairs:
                damage[shard.file] = f"has {rows:,} pairs, not {shard.counts.pairs:,}"
    return damage
