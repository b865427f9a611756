"""Check the options of a conversion and resolve them before anything is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_data.checks import select_row_checks
from dpo_data.conversion.adapt import ConversionJob
from dpo_data.errors import UsageError, require_choice
from dpo_data.options import Axis, Form, Pairing, Tie
from dpo_data.pairing import DEFAULT_POLICY, PairingPolicy
from dpo_data.readers.inputs import split_of
from dpo_data.sources import load_source
from dpo_data.sources.source import Source, SourceOptions


def make_job(
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
) -> ConversionJob:
    """What `convert_chunks` needs, with the options checked.

    Raises: UsageError: an unknown source, form or code; a mapping or axis that the source does not take, or lacks.
    """
    source_ = load_source(source)
    require_choice("form", form, Form)
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
    return ConversionJob(source, options, select_row_checks(forbid, allow), policy, test_fraction, redact)


def pairing_policy(source: Source, **options: Any) -> PairingPolicy:
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
        require_choice("pairing", given["pairing"], Pairing)
    if "tie" in given:
        require_choice("tie", given["tie"], Tie)
    if not 0 <= given.get("min_margin", 0) < float("inf"):
        raise UsageError(f"--min-margin {given['min_margin']}: must be at least 0.")
    if given.get("max_pairs_per_prompt", 1) < 1:
        raise UsageError(f"--max-pairs-per-prompt {given['max_pairs_per_prompt']}: must be at least 1.")
    return PairingPolicy(**given)


def evaluation_split(source: Source, split: str | None, test_fraction: float) -> str:
    """Where all rows of an evaluation set go.

    Raises: UsageError: the user asks for training on it.
    """
    if split == "train" or test_fraction:
        raise UsageError(
            f"{source.name} is an evaluation set, and a model that is trained on it can no longer be measured by it.\n"
            "  Its rows go to the split test. To train on it all the same: --train-on-eval."
        )
    return "test"


def input_names(
    source: Source, inputs: Sequence[str | Path], sample: bool, revision: str | None, split: str | None
) -> list[str]:
    """Return the inputs to read: those named, the embedded sample, or the source's files on the Hub."""
    if sample and inputs:
        raise UsageError("--sample reads the embedded sample, and --input something else. Give one of them.")
    if revision is not None and (sample or inputs):
        raise UsageError("--revision is for files on the hub, and others are to be read. Leave one of them out.")
    if sample:
        if not source.sample:
            raise UsageError(f"{source.name} has no embedded sample.\n  hh-rlhf has one.")
        return [str(Path(__file__).parent.parent / name) for name in source.sample]
    if inputs:
        return [str(name) for name in inputs]
    if not source.hub_files:
        raise UsageError(f"{source.name} reads your own files.\n  Name them: --input FILE.")
    wanted = [name for name in source.hub_files if split is None or split_of(name) == split or source.eval_only]
    if not wanted:
        raise UsageError(f"{source.name} has no files of the split {split} on the hub.\n  Leave out --split.")
    repository = source.hub if revision is None else f"{source.hub}@{revision}"
    return [f"hf://datasets/{repository}/{name}" for name in wanted]
