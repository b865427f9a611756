"""The flow from raw rows to a prepared folder: rows -> source -> pairing -> checks -> prepared + quarantine.

One chunk of raw rows becomes one Arrow batch in a pure function, in this process or in others, and the chunks are
written in the order of reading: the same input and options give the same bytes for any number of workers.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from pydantic import ValidationError

from dpo_data.card import dataset_card
from dpo_data.checks import CHECK_HINTS, DATASET_CHECKS, Finding, RowCheck, run_row_checks, select_row_checks
from dpo_data.checks.check import RowKeys
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.personal_data import redact, redact_pair
from dpo_data.checks.row_keys import Place, RowKeyStore, row_keys, run_dataset_checks
from dpo_data.errors import DataError, InputError, RowError, UsageError, require_choice
from dpo_data.forms import in_form as responses_in_form
from dpo_data.options import DEFAULT_MAX_INVALID, Axis, Form, OnError, Pairing, Progress, SplitName, Tie, silent
from dpo_data.pairing import DEFAULT_POLICY, Match, PairingPolicy, make_pairs
from dpo_data.prepared import (
    SHARD_ROWS,
    ConvertOptions,
    InputEntry,
    Manifest,
    PairingOptions,
    QuarantinedRow,
    SourceEntry,
    SplitEntry,
    SplitWriter,
    Warned,
    building,
    finish_folder,
    messages_column,
    pair_schema,
    scores_column,
    text_column,
    write_manifest,
)
from dpo_data.records import (
    FIELDS,
    ConversationalPair,
    PairKeys,
    PreferencePair,
    ScoredResponses,
    TextPair,
    content_keys,
    encoded_fields,
)
from dpo_data.rows import Chunk, InputFile, RawRow, find_inputs, gathered, groups, split_of, whole_groups
from dpo_data.sources import fitting_sources, load_source
from dpo_data.sources.source import Group, Source, SourceOptions, as_row_error

EncodedFields = tuple[bytes, bytes, bytes]

SPLITS = get_args(SplitName)
#: Smaller inputs are done before a second process would have started.
CHUNKS_WITHOUT_POOL = 8
#: Converted chunks of a worker that may wait for an earlier one: a slow start of the others costs memory, not time.
MAX_PENDING = 16
#: For how long one thread keeps the interpreter while others wait for it.
SWITCH_INTERVAL_S = 0.0001
#: What a prepared folder may hold besides its manifest and its token caches, which stay valid for unchanged shards.
CONTENTS = (
    "train",
    "test",
    "quarantine",
    "dataset_dict.json",
    "README.md",
    "provenance.json",
    "report.json",
    "report.html",
)


@dataclass(frozen=True)
class Adapting:
    """All that a raw row needs to become pairs; travels to other processes."""

    source: str
    options: SourceOptions
    checks: tuple[RowCheck, ...]
    policy: PairingPolicy = DEFAULT_POLICY
    test_fraction: float = 0.0
    redact: bool = False


@dataclass
class ConvertedChunk:
    """What became of one chunk; rows_read = rows_paired + quarantined rows + the sum of left_out."""

    file: str
    split: str
    rows_read: int = 0
    rows_paired: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    unused_columns: Counter[str] = field(default_factory=Counter)
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)
    keys: dict[str, RowKeys] = field(default_factory=dict)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    warned: CodeCounts = field(default_factory=CodeCounts)
    redacted: Counter[str] = field(default_factory=Counter)


def convert(
    source: str,
    inputs: Sequence[str | Path] = (),
    *,
    output: str | Path,
    sample: bool = False,
    form: Form = "text",
    mapping: Mapping[str, str] | None = None,
    axis: Axis | None = None,
    revision: str | None = None,
    split: str | None = None,
    train_on_eval: bool = False,
    input_format: str | None = None,
    test_fraction: float = 0.0,
    limit: int | None = None,
    pairing: Pairing | None = None,
    min_margin: float | None = None,
    tie: Tie | None = None,
    max_pairs_per_prompt: int | None = None,
    seed: int | None = None,
    on_error: OnError = "quarantine",
    max_invalid: float = DEFAULT_MAX_INVALID,
    forbid: Sequence[str] = (),
    allow: Sequence[str] = (),
    redact: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Turn a raw source into a prepared folder, every raw row kept or in quarantine with its reason.

    Args:
        source: a name in `dpo_data.sources.SOURCES`.
        inputs: files, folders, globs, URLs or "-"; when empty, the source's files on the Hugging Face hub.
        output: the prepared folder; new, empty, unfinished, or finished and `overwrite`.
        sample: read the source's embedded sample instead of inputs.
        form: "text", or "conversational" for lists of {role, content}.
        mapping: field of the pair -> column of the table, dotted for nested ones; for sources that take one.
        axis: which of several judgements counts; for sources that have them.
        revision: branch, tag or commit of the files on the hub; their newest state when None.
        split: the split of all rows, and of files on the hub the only one read; when None it is read off each path.
        train_on_eval: let rows of an evaluation set go to train; without it they all go to test.
        input_format: format of all inputs; when None it is read off their names.
        test_fraction: when over 0, the share of prompts that goes to test, by prompt hash, over any split.
        limit: read at most this many rows.
        pairing, min_margin, tie, max_pairs_per_prompt, seed: see `dpo_data.pairing.PairingPolicy`, whose defaults count
            where they are None; for sources of scored or ranked responses.
        on_error: put bad rows in quarantine, or stop at the first.
        max_invalid: share of rows read that may go to quarantine before the whole is marked as rejected.
        forbid: codes of row checks that quarantine.
        allow: codes of row checks that only warn.
        redact: put placeholders in the place of personal data, in pairs and in quarantine; see
            `dpo_data.checks.personal_data`.
        workers: processes; over 1 needs the usual `if __name__ == "__main__"` in a script.
        overwrite: replace a finished folder.
        progress: told how far reading is.

    Returns: the manifest; its `status` is "rejected" when more than `max_invalid` of the rows are in quarantine.

    Raises:
        UsageError: options that contradict each other or the source; an output that cannot be used.
        InputError: an input that cannot be read, or is of another source.
        RowError: with on_error="stop", the first bad row.
    """
    require_choice("--on-error", on_error, OnError)
    if split is not None:
        require_choice("--split", split, SplitName)
    if split is not None and test_fraction:
        raise UsageError("--split and --test-fraction both say which split a row belongs to. Give one of them.")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"--test-fraction {test_fraction}: must be at least 0 and under 1.")
    if not 0 <= max_invalid <= 1:
        raise UsageError(f"--max-invalid {max_invalid}: must be between 0 and 1 (or 0% and 100%).")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be at least 1.")
    source_ = load_source(source)
    policy = _policy(
        source_,
        pairing=pairing,
        min_margin=min_margin,
        tie=tie,
        max_pairs_per_prompt=max_pairs_per_prompt,
        seed=seed,
    )
    adapting = prepare_adapting(
        source, form, mapping or {}, forbid, allow, axis=axis, policy=policy, test_fraction=test_fraction, redact=redact
    )
    names = _input_names(source_, inputs, sample, revision, split)
    if source_.eval_only and not train_on_eval:
        split = _evaluation_split(source_, split, test_fraction)
    elif train_on_eval and not source_.eval_only:
        raise UsageError(f"{source} is no evaluation set: --train-on-eval means nothing to it.")
    files = find_inputs(names, split=split, input_format=input_format)

    folder = Path(output)
    schema = _schema(source_, form)
    tally = Tally()
    with building(folder, overwrite=overwrite, contents=CONTENTS) as scratch:
        store = RowKeyStore(scratch / "keys")
        writers = {name: SplitWriter(scratch, name, schema) for name in SPLITS}
        with ExitStack() as open_files:
            open_files.enter_context(closing(store))
            quarantine: dict[str, object] = {}
            for chunk in convert_chunks(files, adapting, limit=limit, workers=workers, progress=progress):
                if chunk.quarantined and on_error == "stop":
                    raise _stopped_at(chunk.quarantined[0])
                tally.add(chunk)
                for name, batch in chunk.batches.items():
                    chunk.keys[name]["index"] += writers[name].rows
                    store.add(chunk.keys[name])
                    writers[name].write_in_shards(batch)
                if chunk.quarantined:
                    if chunk.split not in quarantine:
                        (scratch / "quarantine").mkdir(exist_ok=True)
                        path = scratch / "quarantine" / f"{chunk.split}.jsonl"
                        quarantine[chunk.split] = open_files.enter_context(path.open("w", encoding="utf-8"))
                    _write_quarantine(quarantine[chunk.split], chunk.quarantined)
        if not tally.rows_read:
            raise InputError(f"{', '.join(file.label for file in files)}: no rows in it.")
        hashes = {name: writer.close() for name, writer in writers.items() if writer.rows}
        shards = {name: list(hashes_of_split) for name, hashes_of_split in hashes.items()}
        tally.warned.merge(run_dataset_checks(store, DATASET_CHECKS, origins_in(scratch, shards)))
        store.remove()
        entry = SourceEntry(
            name=source_.name,
            licence=source_.licence,
            homepage=source_.homepage,
            direction=source_.direction,
            eval_only=source_.eval_only,
        )
        options = ConvertOptions(
            mapping=dict(adapting.options.mapping),
            axis=axis,
            revision=revision,
            pairing=None if source_.comes_in_pairs else PairingOptions(**asdict(policy)),
            train_on_eval=train_on_eval,
            split=split,
            test_fraction=test_fraction,
            limit=limit,
            max_invalid=max_invalid,
            forbid=sorted(forbid),
            allow=sorted(allow),
            redact=redact,
        )
        manifest = tally.manifest(
            form, entry, options, files, {name: (writers[name].rows, shards.get(name, [])) for name in SPLITS}
        )
        (scratch / "README.md").write_text(dataset_card(manifest), encoding="utf-8")
        manifest = manifest.model_copy(update={"files": finish_folder(scratch, hashes)})
        write_manifest(scratch, manifest)
    return manifest


def prepare_adapting(
    source: str,
    form: Form,
    mapping: Mapping[str, str],
    forbid: Sequence[str] = (),
    allow: Sequence[str] = (),
    *,
    axis: Axis | None = None,
    policy: PairingPolicy = DEFAULT_POLICY,
    test_fraction: float = 0.0,
    redact: bool = False,
) -> Adapting:
    """What `convert_chunks` needs, with the options checked.

    Raises: UsageError: an unknown source, form or code; a mapping or axis that the source does not take, or lacks.
    """
    source_ = load_source(source)
    require_choice("--form", form, Form)
    if mapping and not source_.mapped_fields:
        raise UsageError(f"{source} knows its columns and takes no --map.\n  Use the source `pairs` for other tables.")
    if unknown := sorted(set(mapping) - set(source_.mapped_fields)):
        fields = ", ".join(source_.mapped_fields)
        raise UsageError(f"--map {unknown[0]}=...: there is no such field.\n  Fields: {fields}.")
    if axis is not None and axis not in source_.axes:
        known = f"choose from {', '.join(source_.axes)}" if source_.axes else f"{source} has one judgement a row"
        raise UsageError(f"--axis {axis}: {known}.")
    if axis is None and source_.axes:
        raise UsageError(
            f"{source} judges its responses in more than one way, and the judgements disagree.\n"
            f"  Say which one counts: --axis {'|'.join(source_.axes)}."
        )
    options = SourceOptions(form, mapping, axis)
    return Adapting(source, options, select_row_checks(forbid, allow), policy, test_fraction, redact)


def _policy(source: Source, **options: Any) -> PairingPolicy:
    """The pairing policy of the options that are not None.

    Raises: UsageError: one of them is wrong, or means nothing to the source.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given and source.comes_in_pairs:
        option = next(iter(given)).replace("_", "-")
        raise UsageError(f"{source.name} comes in pairs already: --{option} means nothing to it.")
    if "min_margin" in given and not source.has_scores:
        raise UsageError(f"{source.name} has no scores: --min-margin means nothing to it.")
    if "pairing" in given:
        require_choice("--pairing", given["pairing"], Pairing)
    if "tie" in given:
        require_choice("--tie", given["tie"], Tie)
    if not 0 <= given.get("min_margin", 0) < float("inf"):
        raise UsageError(f"--min-margin {given['min_margin']}: must be at least 0.")
    if given.get("max_pairs_per_prompt", 1) < 1:
        raise UsageError(f"--max-pairs-per-prompt {given['max_pairs_per_prompt']}: must be at least 1.")
    return PairingPolicy(**given)


def _evaluation_split(source: Source, split: str | None, test_fraction: float) -> str:
    """Where all rows of an evaluation set go.

    Raises: UsageError: the user asks for training on it.
    """
    if split == "train" or test_fraction:
        raise UsageError(
            f"{source.name} is an evaluation set, and a model that is trained on it can no longer be measured by it.\n"
            "  Its rows go to the split test. To train on it all the same: --train-on-eval."
        )
    return "test"


def _input_names(
    source: Source, inputs: Sequence[str | Path], sample: bool, revision: str | None, split: str | None
) -> list[str]:
    if sample and inputs:
        raise UsageError("--sample reads the embedded sample, and --input something else. Give one of them.")
    if revision is not None and (sample or inputs):
        raise UsageError("--revision is for files on the hub, and others are to be read. Leave one of them out.")
    if sample:
        if not source.sample:
            raise UsageError(f"{source.name} has no embedded sample.\n  hh-rlhf has one.")
        return [str(Path(__file__).parent / name) for name in source.sample]
    if inputs:
        return [str(name) for name in inputs]
    if not source.hub_files:
        raise UsageError(f"{source.name} reads your own files.\n  Name them: --input FILE.")
    wanted = [name for name in source.hub_files if split is None or split_of(name) == split or source.eval_only]
    if not wanted:
        raise UsageError(f"{source.name} has no files of the split {split} on the hub.\n  Leave out --split.")
    repository = source.hub if revision is None else f"{source.hub}@{revision}"
    return [f"hf://datasets/{repository}/{name}" for name in wanted]


def _schema(source: Source, form: Form) -> pa.Schema:
    return pair_schema(form, scores=source.has_scores, tools=source.has_tools)


def _stopped_at(row: QuarantinedRow) -> DataError:
    error = RowError(row.code, row.field, f"{row.file}:{row.line}: {row.message}", row.hint)
    error.hint += "\n  To put such rows in quarantine and go on: --on-error quarantine."
    return error


def _write_quarantine(file: object, rows: Iterable[QuarantinedRow]) -> None:
    for row in rows:
        file.write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")  # type: ignore[attr-defined]


# Chunks.


def convert_chunks(
    files: Sequence[InputFile],
    adapting: Adapting,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Iterator[ConvertedChunk]:
    """Convert raw files chunk by chunk, in the order of reading, for any number of workers.

    Raises: InputError: a file that cannot be read, lacks a column, or is of another source.
    """
    sizes = [file.size_bytes() for file in files]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    rows = 0
    place = _Place(total)
    for chunk in _in_order(convert_chunk, _chunks(files, adapting, limit, place), adapting, workers):
        rows += chunk.rows_read
        progress(place.fraction(), rows)
        yield chunk


@dataclass
class _Place:
    """How far reading is, in raw bytes."""

    total: int | None
    before: int = 0
    in_file: int = 0

    def fraction(self) -> float | None:
        return (self.before + self.in_file) / self.total if self.total else None


def _chunks(files: Sequence[InputFile], adapting: Adapting, limit: int | None, place: _Place) -> Iterator[Chunk]:
    source = load_source(adapting.source)
    left = limit

    def on_read(position: int) -> None:
        place.in_file = position

    for file in files:
        for chunk in grouped_chunks(file.chunks(on_read), source):
            if chunk.opens_file:
                _require_fit(chunk, source, adapting.options)
            if left is not None:
                chunk = replace(chunk, max_rows=left)
                left -= sum(1 for _ in chunk.rows())
            yield chunk
            if left == 0:
                return
        place.before, place.in_file = place.before + (file.size_bytes() or 0), 0


def grouped_chunks(chunks: Iterator[Chunk], source: Source) -> Iterator[Chunk]:
    """The chunks of a file, rows that belong together in one of them."""
    if source.group_key is None:
        return chunks
    return whole_groups(gathered(chunks, source.group_key) if source.scattered else chunks, source.group_key)


def _require_fit(chunk: Chunk, source: Source, options: SourceOptions) -> None:
    """Refuse a file that its first row, or its header, shows to be none of the source's.

    A row that fits no source at all is no proof: it goes to quarantine like any other.

    Raises: InputError: with the name of the source that fits.
    """
    first = next(chunk.rows(), None)
    if first is not None and isinstance(first.value, dict):
        if reason := source.refuse(first.value, options):
            raise InputError(f"{chunk.file}: {reason}")
        if not source.fits(first.value, options.mapping) and (others := fitting_sources(first.value)):
            raise InputError(
                f"{chunk.file}: holds rows of {others[0]}, not of {source.name}.\n"
                f"  Convert it so: dpo-data convert {others[0]} --input FILE"
            )
    for column in source.required_columns(options.mapping) if chunk.columns is not None else ():
        if column not in (columns := chunk.columns or []) and column.split(".")[0] not in columns:
            raise InputError(
                f'{chunk.file}: has no column "{column}".\n  It has: {", ".join(columns)}.\n'
                "  Name the right ones with the source `pairs`: --map prompt=... --map chosen=... --map rejected=..."
            )


def convert_chunk(chunk: Chunk, adapting: Adapting) -> ConvertedChunk:
    """Turn the raw rows of one chunk into pairs, quarantined rows and rows left out; pure."""
    source = load_source(adapting.source)
    converted = ConvertedChunk(chunk.file, chunk.split)
    columns: dict[str, _Columns] = {}
    shapes = Counter[tuple[str, ...]]()
    for rows in groups(chunk.rows(), source.group_key):
        for raw in rows:
            if isinstance(raw.value, dict):
                shapes[tuple(raw.value)] += 1
        outcome = _adapt(rows, source, adapting)
        paired: set[int] = set()
        for pair, places in outcome.pairs:
            origin = f"{chunk.file}:{rows[places[0]].line}"
            redacted = None
            if adapting.redact:
                pair, redacted = redact_pair(pair)
            try:
                fields, keys, warnings = _checked(pair, adapting.checks)
            except RowError as error:
                outcome.fail(places, error)
                continue
            if redacted:
                converted.redacted.update(redacted)
            for check, finding in warnings:
                converted.warned.add(check.code, [f"{origin}: {finding.message}"])
            paired.update(places)
            split = _split_by_prompt(keys, adapting.test_fraction) if adapting.test_fraction else chunk.split
            if split not in columns:
                columns[split] = _Columns(source.name)
            columns[split].add(pair, fields, keys, origin)
        converted.rows_read += len(rows)
        converted.rows_paired += len(paired)
        if outcome.left_out:
            converted.pairs_left_out.update(outcome.left_out)
        if outcome.failed:
            converted.pairs_left_out.update(code for places, code in outcome.failed if paired.intersection(places))
        if len(paired) == len(rows):
            continue
        for place, raw in enumerate(rows):
            if place in paired:
                continue
            if place in outcome.errors:
                converted.quarantined.append(_quarantined(chunk.file, raw, outcome.errors[place], adapting.redact))
            else:
                converted.left_out[outcome.row_reasons.get(place, "not_paired")] += 1
    reads = source.reads(adapting.options.mapping)
    for shape, count in shapes.items():
        converted.unused_columns.update({column: count for column in shape if column not in reads})
    schema = _schema(source, adapting.options.form)
    for split, kept in columns.items():
        converted.batches[split] = kept.batch(schema)
        converted.keys[split] = row_keys(kept.keys, SPLITS.index(split))
    return converted


@dataclass(slots=True)
class _Outcome:
    """What the rows of one group came to, before the checks; places are positions in the group.

    Attributes:
        pairs: each with the places that chosen and rejected come from.
        errors: place -> why that row cannot be in a pair.
        failed: places of each pair that a check refused, and its code.
        left_out: reason -> possible pairs, or responses, that are in no pair.
        row_reasons: place -> why nothing came of that row.
    """

    pairs: list[tuple[PreferencePair, tuple[int, int]]] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)
    failed: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)
    row_reasons: dict[int, str] = field(default_factory=dict)

    def fail(self, places: tuple[int, int], error: RowError) -> None:
        """Blame the row that an error is about; the other one is left out beside it."""
        self.failed.append((places, error.code))
        chosen, rejected = places
        for place in {"chosen": [chosen], "rejected": [rejected]}.get(error.field, places):
            self.errors.setdefault(place, error)
        for place in places:
            self.row_reasons.setdefault(place, error.code)


def _adapt(rows: Sequence[RawRow], source: Source, adapting: Adapting) -> _Outcome:
    """The pairs of rows that belong together, and what is wrong with the others."""
    first = rows[0].value
    if isinstance(first, RowError):  # an unreadable row is in no group but its own
        return _Outcome(errors={0: first})
    try:
        if source.adapt_group is not None:
            values = [raw.value for raw in rows if isinstance(raw.value, dict)]
            return _paired(source.adapt_group(values, adapting.options), source, adapting)
        adapted = source.adapt(first, adapting.options)
        if isinstance(adapted, ScoredResponses):
            return _paired(Group([adapted]), source, adapting)
        return _Outcome(pairs=[(adapted, (0, 0))])
    except RowError as row_error:
        return _Outcome(errors=dict.fromkeys(range(len(rows)), row_error))
    except ValidationError as invalid:
        return _Outcome(errors=dict.fromkeys(range(len(rows)), as_row_error(invalid)))


def _paired(group: Group, source: Source, adapting: Adapting) -> _Outcome:
    """The pairs that the policy makes of scored responses."""
    form = adapting.options.form
    outcome = _Outcome(errors=dict(group.errors), row_reasons=dict(group.left_out))
    in_form = []
    for responses in group.responses:
        try:
            in_form.append(responses_in_form(responses, form))
        except RowError as error:
            outcome.errors.update({response.row: error for response in responses.responses})
    try:
        matches = make_pairs(in_form, adapting.policy)
    except UnicodeEncodeError as error:
        raise _no_character(error) from None
    outcome.left_out = matches.left_out
    outcome.row_reasons |= matches.row_reasons
    for match in matches.kept:
        try:
            outcome.pairs.append((_pair(match, scores=source.has_scores), match.rows))
        except ValidationError as error:
            outcome.fail(match.rows, as_row_error(error))
    return outcome


def _pair(match: Match, *, scores: bool) -> PreferencePair:
    values: dict[str, Any] = {
        "prompt": match.group.prompt,
        "chosen": match.chosen.content,
        "rejected": match.rejected.content,
    }
    if scores:
        values |= {
            "chosen_score": match.chosen.worth,
            "rejected_score": match.rejected.worth,
            "margin": match.margin,
        }
    if isinstance(match.group.prompt, str):
        return TextPair(**values)
    return ConversationalPair(**values, tools=match.group.tools)


def _checked(
    pair: PreferencePair, checks: Iterable[RowCheck]
) -> tuple[EncodedFields, PairKeys, list[tuple[RowCheck, Finding]]]:
    """The encoded fields of a pair, their keys, and what the checks warn about.

    Raises: RowError: a text that cannot be stored, or what a check forbids.
    """
    try:
        fields = encoded_fields(pair)
    except UnicodeEncodeError as error:
        raise _no_character(error) from None
    findings = run_row_checks(pair, checks)
    for check, finding in findings:
        if check.severity == "error":
            raise RowError(check.code, finding.field, finding.message, check.hint)
    return fields, content_keys(*fields), findings


def _no_character(error: UnicodeEncodeError) -> RowError:
    message = f"a text holds {error.object[error.start]!r}, which is no character."
    return RowError("invalid_unicode", "", message)


def _quarantined(file: str, raw: RawRow, error: RowError, redacting: bool) -> QuarantinedRow:
    def clean(text: str) -> str:
        text = text.encode("utf-8", "backslashreplace").decode()
        return redact(text)[0] if redacting else text

    return QuarantinedRow(
        file=file,
        line=raw.line,
        code=error.code,
        field=clean(error.field),
        message=clean(error.message),
        hint=error.hint,
        raw=clean(raw.raw()),
    )


def _split_by_prompt(keys: PairKeys, test_fraction: float) -> str:
    return "test" if int.from_bytes(keys.prompt[:8]) < test_fraction * 2**64 else "train"


class _Columns:
    """Kept rows of one split, column by column."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.keys: list[PairKeys] = []
        self.pairs: list[PreferencePair] = []
        self.fields: list[EncodedFields] = []
        self.origins: list[str] = []

    def add(self, pair: PreferencePair, fields: EncodedFields, keys: PairKeys, origin: str) -> None:
        self.pairs.append(pair)
        self.fields.append(fields)
        self.keys.append(keys)
        self.origins.append(origin)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        columns: dict[str, pa.Array] = {
            "source": text_column([self.source.encode()] * len(self.pairs)),
            "origin": text_column([origin.encode() for origin in self.origins]),
            "id": text_column([keys.pair.hex().encode() for keys in self.keys]),
            "prompt_key": text_column([keys.prompt.hex().encode() for keys in self.keys]),
        }
        for position, name in enumerate(FIELDS):
            if schema.field(name).type == pa.string():
                # Encoded already, for the keys.
                columns[name] = text_column([fields[position] for fields in self.fields])
            else:
                columns[name] = messages_column([getattr(pair, name) for pair in self.pairs], schema.field(name).type)
        if "tools" in schema.names:
            tools = [getattr(pair, "tools", None) for pair in self.pairs]
            columns["tools"] = text_column([None if text is None else text.encode() for text in tools])
        for name in set(schema.names) - set(columns):  # scores
            columns[name] = scores_column([getattr(pair, name) for pair in self.pairs])
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _in_order(
    function: Callable[[Chunk, Adapting], ConvertedChunk], chunks: Iterable[Chunk], adapting: Adapting, workers: int
) -> Iterator[ConvertedChunk]:
    """`function` over all chunks, results in their order, in `workers` processes of which this one is the first.

    It works while the others start, which takes as long as some ten chunks, and whenever they have enough to do.
    """
    chunks = iter(chunks)
    first = list(islice(chunks, CHUNKS_WITHOUT_POOL + 1)) if workers > 1 else []
    if len(first) <= CHUNKS_WITHOUT_POOL:
        for chunk in chain(first, chunks):
            yield function(chunk, adapting)
        return
    # spawn: forking a process that has Arrow's threads can hang it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_start_worker)
    pending: deque[Future[ConvertedChunk]] = deque()
    usual_interval_s = sys.getswitchinterval()
    try:
        # Results come through a pipe in pieces, and for each the pool's thread waits until this one, which computes,
        # makes way: with Python's 5 ms a worker spends half of its time on handing over.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        for chunk in chain(first, chunks):
            if sum(not future.done() for future in pending) < 2 * (workers - 1):
                with _ctrl_c_blocked():
                    pending.append(pool.submit(function, chunk, adapting))
            else:
                own: Future[ConvertedChunk] = Future()
                own.set_result(function(chunk, adapting))
                pending.append(own)
            while pending and (pending[0].done() or len(pending) >= MAX_PENDING * workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, most often because memory ran out.\n  Run again with fewer --workers."
        ) from error
    finally:
        sys.setswitchinterval(usual_interval_s)
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes that start in the block never see Ctrl-C, not even while they are loading: it is their parent's."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_worker() -> None:
    """End with the parent: a killed one can tell its workers nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


# Counting.


@dataclass
class Tally:
    """Counts over all chunks, from which the manifest is made."""

    rows_read: int = 0
    rows_paired: int = 0
    pairs: int = 0
    rows_by_file: Counter[str] = field(default_factory=Counter)
    quarantined_by_split: Counter[str] = field(default_factory=Counter)
    quarantined_by_code: Counter[str] = field(default_factory=Counter)
    left_out_by_split: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    unused_columns: Counter[str] = field(default_factory=Counter)
    warned: CodeCounts = field(default_factory=CodeCounts)
    redacted: Counter[str] = field(default_factory=Counter)

    def add(self, chunk: ConvertedChunk) -> None:
        """Count one chunk."""
        self.rows_read += chunk.rows_read
        self.rows_paired += chunk.rows_paired
        self.pairs += sum(batch.num_rows for batch in chunk.batches.values())
        self.rows_by_file[chunk.file] += chunk.rows_read
        self.quarantined_by_split[chunk.split] += len(chunk.quarantined)
        self.quarantined_by_code.update(row.code for row in chunk.quarantined)
        self.left_out_by_split[chunk.split] += chunk.left_out.total()
        self.left_out.update(chunk.left_out)
        self.pairs_left_out.update(chunk.pairs_left_out)
        self.unused_columns.update(chunk.unused_columns)
        self.warned.merge(chunk.warned)
        self.redacted.update(chunk.redacted)

    def manifest(
        self,
        form: Form,
        source: SourceEntry,
        options: ConvertOptions,
        files: Iterable[InputFile],
        written: Mapping[str, tuple[int, list[str]]],
    ) -> Manifest:
        """The manifest of these counts, without the file hashes."""
        quarantined = self.quarantined_by_code.total()
        return Manifest(
            status="rejected" if quarantined > options.max_invalid * self.rows_read else "complete",
            form=form,
            source=source,
            options=options,
            inputs=[InputEntry(file=f.label, split=f.split, rows=self.rows_by_file[f.label]) for f in files],
            rows_read=self.rows_read,
            rows_paired=self.rows_paired,
            pairs=self.pairs,
            quarantined=quarantined,
            quarantined_by_code=dict(sorted(self.quarantined_by_code.items())),
            left_out=self.left_out.total(),
            left_out_by_reason=dict(sorted(self.left_out.items())),
            pairs_left_out=dict(sorted(self.pairs_left_out.items())),
            unused_columns=dict(sorted(self.unused_columns.items())),
            warnings={
                code: Warned(rows=rows, examples=examples)
                for code, (rows, examples) in self.warned.in_order(CHECK_HINTS).items()
            },
            redacted=dict(sorted(self.redacted.items())),
            splits={
                name: SplitEntry(
                    pairs=rows,
                    quarantined=self.quarantined_by_split[name],
                    left_out=self.left_out_by_split[name],
                    shards=shards,
                )
                for name, (rows, shards) in written.items()
                if rows or self.quarantined_by_split[name] or self.left_out_by_split[name]
            },
            files={},
        )


def origins_in(folder: Path, shards: Mapping[str, Sequence[str]]) -> Callable[[Place], str]:
    """A function that looks up the origin of a row in the shards of `folder`, split to files."""

    def origin_of(place: Place) -> str:
        shard, row = divmod(place.position, SHARD_ROWS)
        with pa.memory_map(str(folder / shards[SPLITS[place.split]][shard])) as file:
            return str(pa.ipc.open_stream(file).read_all().column("origin")[row])

    return origin_of
