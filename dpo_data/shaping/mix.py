"""Mix prepared folders: shares, repeats or counts of the pairs of each, evenly interleaved."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dpo_data.errors import UsageError, argument, require_choice
from dpo_data.options import SPLITS, Form, OnLeak, Progress, silent
from dpo_data.prepared.columns import numbers_column
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.schema import DATASET, TAGS, PairColumns, pair_schema
from dpo_data.prepared.steps import LeftOutPair
from dpo_data.shaping.interleaving import order_of
from dpo_data.shaping.leaks import resolve_leaks
from dpo_data.shaping.parents import Parent, combined_kept, open_parent
from dpo_data.shaping.rows import FolderRows, Range, columns_of, conform, joined, ranges
from dpo_data.shaping.sampling import Sample, rounded
from dpo_data.shaping.step import Step, step, write_pairs

_AMOUNT = re.compile(r"(.+)([:@])(\d+(?:\.\d+)?|\.\d+)")


class PartSpec(NamedTuple):
    """A part of a mix as the user names it.

    Attributes:
        path: the prepared folder.
        name: name of the part, or None for that of the folder.
        share: pairs to take as a share of all, more than 1 with repeats; None if there is a count.
        pairs: number of pairs to take.
    """

    path: Path
    name: str | None
    share: Fraction | None
    pairs: int | None

    def sizes(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return how many pairs of each split are taken, from the number of its pairs."""
        if self.share is not None:
            return {split: rounded(count * self.share) for split, count in counts.items()}
        total, wanted = sum(counts.values()), self.pairs or 0
        sizes = {split: rounded(Fraction(wanted * count, total or 1)) for split, count in counts.items()}
        largest = max(counts, key=lambda split: counts[split], default=None)
        if largest is not None and total:
            sizes[largest] += wanted - sum(sizes.values())
        return sizes

    def amount(self) -> str:
        """Return the share or the count as the user writes it."""
        return f"@{self.pairs}" if self.share is None else f":{float(self.share):g}"


@dataclass(frozen=True)
class MixedPart:
    """The rows that a mix takes from one folder.

    Attributes:
        name: in the column `dataset`.
        rows: all rows of the folder.
        sizes: split to the number of rows to take.
        seed: decides which rows of a partial pass are taken.
    """

    name: str
    rows: FolderRows
    sizes: Mapping[str, int]
    seed: int

    def sample(self, split: str) -> Sample:
        """Return the rows that the last pass over a split takes."""
        rows = self.rows.counts.get(split, 0)
        passes, rest = divmod(self.sizes.get(split, 0), rows) if rows else (0, 0)
        return _sample(f"{self.seed}/{self.name}/{split}/{passes}", rows, rest)

    def read(self, split: str, first: int, last: int) -> pa.Table:
        """Return the rows from the `first`-th to before the `last`-th that the mix takes from a split."""
        rows, size = self.rows.counts.get(split, 0), self.sizes.get(split, 0)
        tables = [self.rows.schema.empty_table()]
        while first < last:
            number, start = divmod(first, rows)
            stop = min(last - number * rows, rows)
            is_whole = (number + 1) * rows <= size
            positions = np.arange(start, stop) if is_whole else self.sample(split).positions(start, stop)
            tables.append(self.rows.read_positions(split, positions))
            first = number * rows + stop
        table = joined(tables, self.rows.schema)
        inner = table.column(DATASET).to_pylist() if DATASET in table.schema.names else [None] * table.num_rows
        names = pa.array([self.name if name is None else f"{self.name}/{name}" for name in inner], pa.string())
        if DATASET in table.schema.names:
            return table.set_column(table.schema.names.index(DATASET), DATASET, names)
        return table.append_column(DATASET, names)


@dataclass(frozen=True)
class MixedRows:
    """The rows of a mix, in its order."""

    form: Form
    columns: PairColumns
    parts: Sequence[MixedPart]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return pair_schema(self.form, self.columns)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Split to its number of rows."""
        return {split: sum(part.sizes.get(split, 0) for part in self.parts) for split in SPLITS}

    def read(self, range_: Range) -> pa.Table:
        """Return the rows of a range, each column in one piece."""
        sizes = [part.sizes.get(range_.split, 0) for part in self.parts]
        spans, places = order_of(sizes, range_.start, range_.stop)
        tables = [part.read(range_.split, *span) for part, span in zip(self.parts, spans, strict=True)]
        order = np.empty(len(places), np.int64)
        order[places] = np.arange(len(places))
        return joined(tables, self.schema).take(numbers_column(order, pa.int64()))


def mix(
    parts: Sequence[str | Path | PartSpec],
    *,
    output: str | Path,
    seed: int = 0,
    on_leak: OnLeak = "drop-train",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Mix prepared folders, split by split; the column `dataset` names the part that a pair comes from.

    A whole pass over a part keeps its order; a partial one takes a sample, which depends on the seed and the name of
    the part alone. The mix is interleaved evenly. A mix of whole passes in the same ratios with a larger total begins
    with the smaller mix; a larger sample contains the smaller one.

    Args:
        parts: PATH, PATH:SHARE or PATH@COUNT each, and NAME= before it to name the part otherwise than its folder. A
            share of 0.5 takes half of the pairs, one of 2 takes each twice; a count is divided among the splits.
        output: the folder to write.
        seed: of the samples.
        on_leak: what to do with prompts that are in train and in test: leave out the pairs in train ("drop-train") or
            in test ("drop-test"), move those in train to test ("move"), or "refuse".
        overwrite: replace a finished folder.
        workers: number of processes; a mix copies rows, in one.
        progress: called with the share of pairs that were written, and their number.

    Raises:
        UsageError: parts with the same name, or with columns or forms that do not fit.
        PreparedError: a folder is unfinished, rejected or damaged.
    """
    require_choice("on_leak", on_leak, OnLeak)
    specs = [part if isinstance(part, PartSpec) else parse_part(str(part)) for part in parts]
    if not specs:
        raise UsageError("name at least one part.", "parts", "")
    parents = [open_parent(spec.path, output, spec.name) for spec in specs]
    names = [parent.name for parent in parents]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{twice[0]}: several parts have this name.\n  Name each: NAME={specs[-1].path}.")
    rows = _mixed_rows(parents, specs, seed)
    options = {
        "parts": {parent.name: spec.amount() for parent, spec in zip(parents, specs, strict=True)},
        "seed": seed,
        "on_leak": on_leak,
    }
    with step("mix", options, parents, output=output, overwrite=overwrite) as run:
        for part in rows.parts:
            _count_part(run, part)
        verdicts = run.verdicts(rows)
        resolve_leaks(rows, verdicts, on_leak, run.work)
        return write_pairs(run, rows, verdicts, progress=progress)


def parse_part(text: str) -> PartSpec:
    """Return the part that a text names.

    >>> parse_part("chats=runs/chats:0.5")
    PartSpec(path=PosixPath('runs/chats'), name='chats', share=Fraction(1, 2), pairs=None)
    >>> parse_part("hh@5000").pairs
    5000

    Raises: UsageError: a share or a count that is zero, or a count that is not whole.
    """
    rest, share, count = text, Fraction(1), None
    found = None if Path(text).exists() else _AMOUNT.fullmatch(text)
    if found:
        rest, number = found[1], Fraction(found[3])
        if not number or (found[2] == "@" and number.denominator > 1):
            raise UsageError(f"{text}: a share is more than 0, and a count is a whole number of pairs.")
        share, count = (number, None) if found[2] == ":" else (Fraction(1), int(number))
    name, equals, path = rest.partition("=")
    if not (name and equals and path) or Path(rest).exists():
        name, path = "", rest
    return PartSpec(Path(path), name or None, None if count is not None else share, count)


def _mixed_rows(parents: Sequence[Parent], specs: Sequence[PartSpec], seed: int) -> MixedRows:
    forms = {parent.manifest.form: parent.name for parent in parents}
    if len(forms) > 1:
        raise UsageError(
            f"{' and '.join(f'{name} is {form_}' for form_, name in forms.items())}.\n"
            f"  Convert the parts again in one form, with {argument('form', 'text|conversational')}."
        )
    for parent in parents:
        if DATASET in parent.manifest.kept_columns:
            raise UsageError(
                f"{parent.name} has a column {DATASET} of its own, which a mix fills.\n"
                f"  Convert it again under another name: --keep part={DATASET}."
            )
    all_columns = [columns_of(parent.manifest) for parent in parents]
    kept = {name: column.type for name, column in combined_kept(parents).items()}
    if TAGS in kept and any(TAGS in columns.steps for columns in all_columns):
        raise UsageError(f"the column {TAGS} holds tags in one part and metadata in another.")
    columns = PairColumns(
        scores=any(each.scores for each in all_columns),
        tools=any(each.tools for each in all_columns),
        template_arguments=any(each.template_arguments for each in all_columns),
        reasoning=tuple(
            name for name in ("reasoning_content", "thinking") if any(name in each.reasoning for each in all_columns)
        ),
        kept=kept,
        steps=(DATASET, *([TAGS] if any(TAGS in each.steps for each in all_columns) else [])),
    )
    parts = [
        MixedPart(parent.name, rows, spec.sizes(rows.counts), seed)
        for parent, spec in zip(parents, specs, strict=True)
        for rows in [FolderRows.of(parent.prepared)]
    ]
    return MixedRows(parents[0].manifest.form, columns, parts)


def _count_part(run: Step, part: MixedPart) -> None:
    """Count the repeated pairs of a part, and list those that are not taken at all."""
    for split, rows in part.rows.counts.items():
        size = part.sizes.get(split, 0)
        run.repeated += max(0, size - rows)
        for range_ in ranges(replace(part.rows, shards={split: part.rows.shards[split]})) if size < rows else ():
            positions = np.arange(range_.start, range_.stop)
            out = positions[~part.sample(split).contains(positions)]
            names = [name for name in ("id", "origin", DATASET) if name in part.rows.schema.names]
            for pair in conform(part.rows.read_positions(split, out), part.rows.schema).select(names).to_pylist():
                inner = pair.get(DATASET)
                dataset = part.name if inner is None else f"{part.name}/{inner}"
                run.leave_out(
                    split, LeftOutPair(id=pair["id"], dataset=dataset, origin=pair["origin"], reason="not_sampled")
                )


@lru_cache(maxsize=64)
def _sample(key: str, rows: int, size: int) -> Sample:
    return Sample(key, rows, size)
