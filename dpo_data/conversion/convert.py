"""Convert a raw source to a prepared folder."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from dpo_data.checks import DATASET_CHECKS
from dpo_data.checks.row_keys import RowKeyStore, run_dataset_checks
from dpo_data.conversion.adapt import _schema
from dpo_data.conversion.card import dataset_card
from dpo_data.conversion.chunks import convert_chunks
from dpo_data.conversion.plan import evaluation_split, input_names, make_job, pairing_policy
from dpo_data.conversion.tally import Tally
from dpo_data.errors import DataError, InputError, RowError, UsageError, require_choice
from dpo_data.options import DEFAULT_MAX_INVALID, Axis, Form, OnError, Pairing, Progress, SplitName, Tie, silent
from dpo_data.prepared.manifest import ConvertOptions, Manifest, PairingOptions, SourceEntry
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.writer import building_prepared
from dpo_data.readers.inputs import find_inputs
from dpo_data.sources import load_source


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
    require_choice("on_error", on_error, OnError)
    if split is not None:
        require_choice("split", split, SplitName)
    if split is not None and test_fraction:
        raise UsageError("--split and --test-fraction both say which split a row belongs to. Give one of them.")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"--test-fraction {test_fraction}: must be at least 0 and under 1.")
    if not 0 <= max_invalid <= 1:
        raise UsageError(f"--max-invalid {max_invalid}: must be between 0 and 1 (or 0% and 100%).")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be at least 1.")
    source_ = load_source(source)
    policy = pairing_policy(
        source_,
        pairing=pairing,
        min_margin=min_margin,
        tie=tie,
        max_pairs_per_prompt=max_pairs_per_prompt,
        seed=seed,
    )
    job = make_job(
        source, form, mapping or {}, forbid, allow, axis=axis, policy=policy, test_fraction=test_fraction, redact=redact
    )
    names = input_names(source_, inputs, sample, revision, split)
    if source_.eval_only and not train_on_eval:
        split = evaluation_split(source_, split, test_fraction)
    elif train_on_eval and not source_.eval_only:
        raise UsageError(f"{source} is no evaluation set: --train-on-eval means nothing to it.")
    files = find_inputs(names, split=split, input_format=input_format)

    tally = Tally()
    with building_prepared(Path(output), form, _schema(source_, form), overwrite=overwrite) as writer:
        store = RowKeyStore(writer.folder / "keys")
        with closing(store):
            for chunk in convert_chunks(files, job, limit=limit, workers=workers, progress=progress):
                if chunk.quarantined and on_error == "stop":
                    raise _stopped_at(chunk.quarantined[0])
                tally.add(chunk)
                for name, batch in chunk.batches.items():
                    chunk.keys[name]["index"] += writer.add(name, batch)
                    store.add(chunk.keys[name])
                writer.quarantine(chunk.split, chunk.quarantined)
        if not tally.rows_read:
            raise InputError(f"{', '.join(file.label for file in files)}: no rows in it.")
        tally.warned.merge(run_dataset_checks(store, DATASET_CHECKS, writer.finish_splits()))
        store.remove()
        entry = SourceEntry(
            name=source_.name,
            license=source_.license,
            homepage=source_.homepage,
            direction=source_.direction,
            eval_only=source_.eval_only,
        )
        options = ConvertOptions(
            mapping=dict(job.options.mapping),
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
        header = tally.header(form, entry, options, files)
        return writer.finish(header, dataset_card, left_out=tally.left_out_by_split)


def _stopped_at(row: QuarantinedRow) -> DataError:
    error = RowError(row.code, row.field, f"{row.file}:{row.line}: {row.message}", row.hint)
    error.hint += "\n  To put such rows in quarantine and go on: --on-error quarantine."
    return error
