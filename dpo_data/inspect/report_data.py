"""Data of the report on a prepared folder: statistics, findings, and the example pairs behind every number."""

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dpo_data.errors import PreparedError
from dpo_data.excerpts import beginning, ending
from dpo_data.inspect.findings import extra_checks
from dpo_data.inspect.pairs import PairAt, pairs_at, positions_of
from dpo_data.inspect.statistics.collector import StatisticsCollector, named_ids, require_slicing
from dpo_data.inspect.statistics.lengths import LengthStatistics
from dpo_data.inspect.statistics.models import Statistics
from dpo_data.inspect.validation import ValidationReport, open_encoder, read_folder, validation_report
from dpo_data.inspect.verdict import split_example
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, Progress, silent
from dpo_data.prepared.manifest import Manifest, ManifestModel
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.reader import Prepared, read_manifest
from dpo_data.tokens.options import token_options

#: Characters of an example's texts; the dataset has them in full.
PROMPT_CHARACTERS = 600
RESPONSE_CHARACTERS = 1500
RAW_CHARACTERS = 600
#: Rows in quarantine to show of each code.
QUARANTINE_SAMPLES = 2


class ExamplePair(ManifestModel):
    """A pair behind a number; a long prompt is clipped at its beginning, a long response at its end."""

    id: str
    split: str
    index: int
    origin: str
    prompt: str
    chosen: str
    rejected: str


class DataReport(ManifestModel):
    """Content of the report on a prepared folder."""

    path: str
    manifest: Manifest
    validation: ValidationReport
    statistics: Statistics
    pairs: Annotated[dict[str, ExamplePair], Field(description="Id to pair, for every id that the statistics name.")]
    finding_pairs: Annotated[dict[str, list[str]], Field(description="Code of a finding to ids of pairs that have it.")]
    quarantined: Annotated[list[QuarantinedRow], Field(description="The first rows of each code, clipped.")]

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import data_report

        return data_report(self)


def report(
    path: str | Path,
    *,
    tokenizer: Any = None,
    max_lengths: Sequence[int] = DEFAULT_AUDIT_LENGTHS,
    max_prompt_length: int | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    template_date: datetime.date | str | None = None,
    cache_dir: str | Path | None = None,
    deep: bool = False,
    against: Sequence[str | Path] = (),
    by: str | None = None,
    progress: Progress = silent,
) -> DataReport:
    """Return the report on a prepared folder, also on a rejected one.

    Args:
        path: the folder.
        tokenizer: name, folder or loaded tokenizer, for lengths in tokens and the truncation audit.
        max_lengths: maximum lengths to audit, in tokens.
        max_prompt_length: maximum prompt tokens when a pair is too long; None keeps as much of the responses as fits.
        chat_template: a Jinja template that replaces the tokenizer's; for conversational data.
        chat_template_kwargs: see `tokenize`.
        template_date: see `tokenize`.
        cache_dir: where the folder's token caches are, if not in the folder.
        deep: run the deep checks too; see `validate`.
        against: evaluation sets whose text is searched for in the pairs; see `validate`.
        by: a metadata column, by whose values the pairs are also counted and the rules scored.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        PreparedError: the folder is unfinished, or a file of it is missing or damaged.
        InputError, UsageError: as `tokenize` for the tokenizer, and for lengths that leave no room.
        UsageError: there is no column `by`, or it has more than 50 values.
    """
    prepared = Prepared(Path(path), read_manifest(Path(path)))
    require_slicing(prepared, by)
    manifest = prepared.manifest
    options = token_options(
        chat_template=chat_template, chat_template_kwargs=chat_template_kwargs, template_date=template_date
    )
    encoder, _ = open_encoder(tokenizer, prepared, options, chat_template, data=path, cache_dir=cache_dir)
    collector = StatisticsCollector(LengthStatistics(encoder, max_lengths, max_prompt_length), by)
    with read_folder(prepared, extra_checks(deep, against), collector, encoder, progress) as found:
        statistics = collector.result(found.keys, manifest.judgments)
        positions = found.findings.positions | positions_of(set(named_ids(statistics)), found.keys)
        validation = validation_report(prepared, found, collector.lengths, path=str(path), cache_dir=cache_dir)
    if damaged := [name for name in validation.damage if name in manifest.files or name in manifest.splits]:
        raise PreparedError(
            f"{path}: {damaged[0]} {validation.damage[damaged[0]]}.\n  Find out more: dpo-data validate {path}."
        )
    pairs = pairs_at(prepared, set(positions.values()))
    finding_pairs = {
        code: list(dict.fromkeys(pairs[positions[origin]].row.id for origin in origins if origin in positions))
        for code, origins in _finding_origins(validation).items()
    }
    shown = {pair.row.id: pair for _, pair in sorted(pairs.items(), reverse=True)}
    wanted = {*named_ids(statistics), *(id_ for ids in finding_pairs.values() for id_ in ids)}
    return DataReport(
        path=str(path),
        manifest=manifest,
        validation=validation,
        statistics=statistics,
        pairs={id_: _example(shown[id_]) for id_ in sorted(wanted)},
        finding_pairs=finding_pairs,
        quarantined=list(_samples(prepared)),
    )


def _finding_origins(validation: ValidationReport) -> dict[str, list[str]]:
    """Return code to the origins that its examples begin with."""
    return {
        code: [origin for origin, _ in map(split_example, finding.examples) if origin]
        for code, finding in validation.findings.items()
    }


def _example(pair: PairAt) -> ExamplePair:
    prompt, chosen, rejected = pair.row.texts
    return ExamplePair(
        id=pair.row.id,
        split=pair.split,
        index=pair.index,
        origin=pair.row.origin,
        prompt=ending(prompt, PROMPT_CHARACTERS),
        chosen=beginning(chosen, RESPONSE_CHARACTERS),
        rejected=beginning(rejected, RESPONSE_CHARACTERS),
    )


def _samples(prepared: Prepared) -> Iterable[QuarantinedRow]:
    shown = Counter[str]()
    for row in prepared.quarantined():
        shown[row.code] += 1
        if shown[row.code] <= QUARANTINE_SAMPLES:
            yield row.model_copy(update={"raw": beginning(row.raw, RAW_CHARACTERS)})
