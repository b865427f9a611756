"""What the report of a prepared folder shows: its statistics, its findings, and the examples behind every number."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dpo_data.errors import PreparedError
from dpo_data.inspect.pairs import PairAt, pairs_by_id, pairs_by_origin
from dpo_data.inspect.statistics.measuring import compute_statistics
from dpo_data.inspect.statistics.models import Statistics
from dpo_data.inspect.validation import ValidationReport, validate
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, Progress, silent
from dpo_data.prepared.manifest import Manifest, ManifestModel
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.reader import Prepared, read_manifest
from dpo_data.tokens.cache import load_checked_tokenizer
from dpo_data.tokens.encoder import Encoder

#: Of an example's texts; whole they stand in the data set.
PROMPT_CHARACTERS = 600
RESPONSE_CHARACTERS = 1500
RAW_CHARACTERS = 600
#: Rows in quarantine that are shown of each code.
QUARANTINE_SAMPLES = 2

_ORIGIN = re.compile(r"(.*?:\d+): ", re.DOTALL)


class ExamplePair(ManifestModel):
    """A pair behind a number; long texts are cut, a prompt at its beginning and a response at its end."""

    id: str
    split: str
    index: int
    origin: str
    prompt: str
    chosen: str
    rejected: str


class DataReport(ManifestModel):
    """What `dpo-data report` shows of a prepared folder."""

    path: str
    manifest: Manifest
    validation: ValidationReport
    statistics: Statistics
    pairs: Annotated[dict[str, ExamplePair], Field(description="Id to pair, of every id that the statistics name.")]
    finding_pairs: Annotated[dict[str, list[str]], Field(description="Code of a finding to ids of pairs that have it.")]
    quarantined: Annotated[list[QuarantinedRow], Field(description="The first rows of each code; raw ones cut.")]


def report(
    path: str | Path,
    *,
    tokenizer: Any = None,
    max_lengths: Sequence[int] = DEFAULT_AUDIT_LENGTHS,
    max_prompt_length: int | None = None,
    chat_template: str | None = None,
    cache_dir: str | Path | None = None,
    deep: bool = False,
    against: Sequence[str | Path] = (),
    progress: Progress = silent,
) -> DataReport:
    """All that there is to see in a prepared folder, rejected ones too.

    Args:
        path: the folder.
        tokenizer: name, folder or loaded tokenizer, for lengths in tokens and the truncation audit.
        max_lengths: maximum lengths, in tokens, to cut the pairs to.
        max_prompt_length: most tokens of the prompt of a pair that is too long; None protects the responses.
        chat_template: a Jinja template that replaces the tokenizer's; for conversational data.
        cache_dir: where the folder's token caches are, if not in itself.
        deep: run the deep checks too; see `validate`.
        against: evaluation sets whose text is looked for in the pairs; see `validate`.
        progress: told how far it is.

    Raises:
        PreparedError: the folder is unfinished, or a file of it is missing or damaged.
        InputError, UsageError: as `tokenize` for the tokenizer, and for lengths that leave no room.
    """
    manifest = read_manifest(Path(path))
    prepared = Prepared(Path(path), manifest)
    encoder = None
    if tokenizer is not None:
        encoder = Encoder(load_checked_tokenizer(tokenizer, manifest.form, chat_template, data=path), chat_template)
    validation = validate(path, cache_dir=cache_dir, deep=deep, against=against, progress=_part(progress, 0.0, 0.5))
    if damaged := [name for name in validation.damage if name in manifest.files or name in manifest.splits]:
        raise PreparedError(
            f"{path}: {damaged[0]} {validation.damage[damaged[0]]}.\n  Find out more: dpo-data validate {path}."
        )
    statistics = compute_statistics(
        prepared,
        encoder=encoder,
        max_lengths=max_lengths,
        max_prompt_length=max_prompt_length,
        progress=_part(progress, 0.5, 1.0),
    )
    finding_pairs = _finding_pairs(prepared, validation)
    pairs = {pair.row.id: pair for pair in finding_pairs.values()}
    pairs |= pairs_by_id(prepared, set(named_ids(statistics)) - set(pairs))
    return DataReport(
        path=str(path),
        manifest=manifest,
        validation=validation,
        statistics=statistics,
        pairs={id_: _example(pair) for id_, pair in sorted(pairs.items())},
        finding_pairs={
            code: list(dict.fromkeys(finding_pairs[origin].row.id for origin in origins if origin in finding_pairs))
            for code, origins in _finding_origins(validation).items()
        },
        quarantined=list(_samples(prepared)),
    )


def named_ids(statistics: Statistics) -> Iterable[str]:
    """The ids of all pairs that the statistics give as examples."""
    if statistics.characters:
        yield from statistics.characters.longest
    if statistics.tokens:
        yield from statistics.tokens.longest
    if statistics.lengths:
        yield from statistics.lengths.chosen_longest
        yield from statistics.lengths.rejected_longest
    if statistics.scores:
        yield from statistics.scores.widest
        yield from statistics.scores.narrowest
    if statistics.label_noise:
        yield from statistics.label_noise.examples
    for rule in statistics.rules:
        yield from rule.right_examples
        yield from rule.wrong_examples
    for entry in statistics.truncation:
        yield from entry.identical_examples
        yield from entry.one_side_examples


def _part(progress: Progress, start: float, end: float) -> Progress:
    def told(fraction: float | None, rows: int) -> None:
        progress(None if fraction is None else start + fraction * (end - start), rows)

    return told


def _finding_origins(validation: ValidationReport) -> dict[str, list[str]]:
    """Code to the origins that its examples begin with."""
    places = {code: map(_ORIGIN.match, finding.examples) for code, finding in validation.findings.items()}
    return {code: [place[1] for place in found if place] for code, found in places.items()}


def _finding_pairs(prepared: Prepared, validation: ValidationReport) -> dict[str, PairAt]:
    origins = {origin for of_code in _finding_origins(validation).values() for origin in of_code}
    return pairs_by_origin(prepared, origins)


def _example(pair: PairAt) -> ExamplePair:
    prompt, chosen, rejected = pair.row.texts
    return ExamplePair(
        id=pair.row.id,
        split=pair.split,
        index=pair.index,
        origin=pair.row.origin,
        prompt=prompt if len(prompt) <= PROMPT_CHARACTERS else "… " + prompt[-PROMPT_CHARACTERS:],
        chosen=_beginning(chosen, RESPONSE_CHARACTERS),
        rejected=_beginning(rejected, RESPONSE_CHARACTERS),
    )


def _samples(prepared: Prepared) -> Iterable[QuarantinedRow]:
    shown = Counter[str]()
    for row in prepared.quarantined():
        shown[row.code] += 1
        if shown[row.code] <= QUARANTINE_SAMPLES:
            yield row.model_copy(update={"raw": _beginning(row.raw, RAW_CHARACTERS)})


def _beginning(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters] + " …"
