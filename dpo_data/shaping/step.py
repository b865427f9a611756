"""One run of a step: its scratch folder, and the folder that it writes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dpo_data.options import SPLITS, Progress, silent
from dpo_data.prepared.building import building
from dpo_data.prepared.columns import numbers_column
from dpo_data.prepared.manifest import Manifest, ManifestHeader, StepEntry
from dpo_data.prepared.schema import DATASET
from dpo_data.prepared.steps import CHANGES, LEFT_OUT, ChangedPair, LeftOutPair, LineWriter
from dpo_data.prepared.writer import PreparedWriter
from dpo_data.shaping.card import step_card
from dpo_data.shaping.parents import Parent, combined_kept, combined_license, combined_options, combined_source
from dpo_data.shaping.rows import RANGE_ROWS, Range, Rows, joined, ranges
from dpo_data.shaping.verdicts import KEPT, Verdicts

#: Bytes of rows from which on they are written, however few they are.
MAX_PENDING_BYTES = 1 << 28


@dataclass
class Step:
    """A run of a step.

    Attributes:
        verb: its name.
        options: those that affect the content.
        parents: the folders that it reads.
        folder: the scratch folder that becomes the result.
        work: a folder for other files of the run.
        repeated: pairs that are taken once more than they occur.
        left_out: pairs that are not among the rows, by split and reason.
        redacted: kind of personal data to the placeholders that the step put in.
        notes: what the step found out, in sentences.
    """

    verb: str
    options: Mapping[str, Any]
    parents: Sequence[Parent]
    folder: Path
    work: Path
    repeated: int = 0
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left_out_file = LineWriter(self.folder / LEFT_OUT)
        self._changes_file = LineWriter(self.folder / CHANGES)

    def verdicts(self, rows: Rows) -> Verdicts:
        """Return the verdicts of rows, all of them kept."""
        return Verdicts(self.work / "verdicts", rows.counts)

    def leave_out(self, split: str, pair: LeftOutPair) -> None:
        """Count and list a pair that is left out."""
        self.left_out[split, pair.reason] += 1
        self._left_out_file.write(pair)

    def change(self, pair: ChangedPair) -> None:
        """List a changed pair."""
        self._changes_file.write(pair)

    def close(self) -> None:
        """Close the lists of pairs."""
        self._left_out_file.close()
        self._changes_file.close()


@contextmanager
def step(
    verb: str, options: Mapping[str, Any], parents: Sequence[Parent], *, output: str | Path, overwrite: bool
) -> Iterator[Step]:
    """Give a run of a step, whose folder is published if the block ends without an exception.

    Raises: UsageError: the output cannot be used.
    """
    with building(Path(output), "prepared", overwrite=overwrite) as scratch:
        work = scratch / "work"
        work.mkdir()
        with closing(Step(verb, options, parents, scratch, work)) as run:
            yield run


class _Batches:
    """Rows on their way to a split, in batches whose borders depend on the rows alone."""

    def __init__(self, writer: PreparedWriter, split: str, schema: pa.Schema) -> None:
        self._writer = writer
        self._split = split
        self._schema = schema
        self._pending: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, rows: pa.Table) -> None:
        while rows.num_rows:
            part = rows.slice(0, RANGE_ROWS - self._rows)
            rows = rows.slice(part.num_rows)
            self._pending.append(part)
            self._rows += part.num_rows
            self._bytes += part.nbytes
            if self._rows == RANGE_ROWS or self._bytes > MAX_PENDING_BYTES:
                self.flush()

    def flush(self) -> None:
        if self._rows:
            table = joined(self._pending, self._schema)
            # A copy: Arrow writes a slice with traces of the rows around it.
            self._writer.add(self._split, table.take(numbers_column(np.arange(self._rows), pa.int64())))
            self._pending, self._rows, self._bytes = [], 0, 0


def write_pairs(
    run: Step,
    rows: Rows,
    verdicts: Verdicts,
    *,
    changes: Mapping[tuple[str, int], ChangedPair] | None = None,
    evidence: Mapping[tuple[str, int], str] | None = None,
    redacted: Mapping[tuple[str, int], Counter[str]] | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write the kept rows, the lists of the others, and the manifest.

    Args:
        run: the run.
        rows: all rows.
        verdicts: what becomes of them.
        changes: split and position of each changed row, with the change.
        evidence: split and position of rows that are left out, with what the reason rests on.
        redacted: split and position of rows, with the placeholders that the step put in, by kind.
        progress: called with the share of rows that were written, and their number.
    """
    changes, evidence, redacted = changes or {}, evidence or {}, redacted or {}
    kept, moved, changed, done, total = 0, 0, 0, 0, sum(rows.counts.values())
    with closing(PreparedWriter(run.folder, rows.form, rows.schema)) as writer, ExitStack() as pending:
        batches = {split: _Batches(writer, split, rows.schema) for split in SPLITS}
        for each in batches.values():
            pending.callback(each.flush)
        for range_ in ranges(rows):
            table, codes, splits = rows.read(range_), verdicts.codes(range_), verdicts.splits(range_)
            if not codes.any():
                codes = codes[:0]
            for target in range(len(SPLITS)):
                mask = splits == target
                if len(codes):
                    mask = mask & (codes == KEPT)
                if mask.any():
                    chosen = table if mask.all() else table.filter(pa.array(mask))
                    batches[SPLITS[target]].add(chosen)
                    kept += chosen.num_rows
                    moved += chosen.num_rows if SPLITS[target] != range_.split else 0
            if len(codes):
                _list_left_out(run, range_, table, codes, verdicts, evidence)
            for position in verdicts.kept(range_).tolist() if changes or redacted else ():
                run.redacted.update(redacted.get((range_.split, position), {}))
                if (change := changes.get((range_.split, position))) is not None:
                    run.change(change)
                    changed += 1
            done += table.num_rows
            progress(done / total, done)
        for each in batches.values():
            each.flush()
        run.close()
        _remove(run.work)
        left_out = Counter[str]()
        for (split, _), count in run.left_out.items():
            left_out[split] += count
        header = _header(run, rows, kept, moved, changed)
        paths = {parent.name: str(parent.prepared.path.resolve()) for parent in run.parents}
        return writer.finish(header, step_card, left_out=left_out, provenance={"parents": paths})


def _list_left_out(
    run: Step, range_: Range, table: pa.Table, codes: Any, verdicts: Verdicts, evidence: Mapping[tuple[str, int], str]
) -> None:
    out = np.flatnonzero(codes != KEPT)
    names = [name for name in ("id", "origin", DATASET) if name in table.schema.names]
    listed = table.select(names).take(numbers_column(out, pa.int64())).to_pylist()
    for row, code, pair in zip(out.tolist(), codes[out].tolist(), listed, strict=True):
        fields = {name: pair.get(name) for name in ("id", "origin", "dataset")}
        found = evidence.get((range_.split, range_.start + row))
        run.leave_out(range_.split, LeftOutPair(**fields, reason=verdicts.reasons[code], evidence=found))


def _header(run: Step, rows: Rows, kept: int, moved: int, changed: int) -> ManifestHeader:
    parents = [parent.manifest for parent in run.parents]
    by_reason = Counter[str]()
    for (_, reason), count in sorted(run.left_out.items(), key=lambda item: item[0][1]):
        by_reason[reason] += count
    redacted = Counter(run.redacted)
    for parent in parents:
        redacted.update(parent.redacted)
    licenses = [parent.license or parent.source.license for parent in parents]
    names = {parent.name for parent in parents}
    descriptions = {parent.description for parent in parents}
    return ManifestHeader(
        status="complete",
        name=names.pop() if len(names) == 1 else None,
        description=descriptions.pop() if len(descriptions) == 1 else None,
        license=combined_license(licenses) if any(parent.license for parent in parents) else None,
        form=rows.form,
        source=combined_source(run.parents),
        made_by=StepEntry(
            verb=run.verb,
            version=1,
            options=dict(run.options),
            parents=[parent.entry() for parent in run.parents],
            repeated=run.repeated,
            left_out=dict(by_reason),
            changed=changed,
            moved=moved,
            notes=run.notes,
        ),
        options=combined_options(run.parents),
        kept_columns=combined_kept(run.parents),
        inputs=[],
        rows_read=sum(parent.pairs for parent in parents) + run.repeated,
        rows_paired=kept,
        pairs=kept,
        quarantined=0,
        quarantined_by_code={},
        left_out=by_reason.total(),
        left_out_by_reason=dict(by_reason),
        pairs_left_out={},
        unused_columns={},
        warnings={},
        redacted=dict(sorted(redacted.items())),
    )


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
