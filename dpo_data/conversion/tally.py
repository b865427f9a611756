"""Counts of a conversion, by split and by code."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dpo_data.checks import CHECK_HINTS
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.one_sided_marker import OneSidedMarks
from dpo_data.conversion.chunks import ConvertedChunk
from dpo_data.conversion.plan import ConversionPlan
from dpo_data.errors import InputError
from dpo_data.prepared.manifest import InputEntry, JudgmentCounts, ManifestHeader, SourceEntry, WarningCount
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.readers.inputs import InputFile


@dataclass
class Tally:
    """Counts over all chunks, which become the header of the manifest.

    Attributes:
        lacking: number of the first rows that all lack the same field.
        first_lacking: the first of them.
    """

    rows_read: int = 0
    rows_paired: int = 0
    pairs: int = 0
    rows_by_file: Counter[tuple[str, str]] = field(default_factory=Counter)
    quarantined_by_code: Counter[str] = field(default_factory=Counter)
    left_out_by_split: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    unused_columns: Counter[str] = field(default_factory=Counter)
    warned: CodeCounts = field(default_factory=CodeCounts)
    redacted: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    judgments: JudgmentCounts | None = None
    marks: OneSidedMarks = field(default_factory=OneSidedMarks)
    lacking: int = 0
    first_lacking: QuarantinedRow | None = None

    def add(self, chunk: ConvertedChunk) -> None:
        """Count one chunk."""
        if chunk.lacking and self.lacking == self.rows_read:
            self.first_lacking = self.first_lacking or chunk.quarantined[0]
            if chunk.quarantined[0].field == self.first_lacking.field:
                self.lacking += chunk.lacking
        self.rows_read += chunk.rows_read
        self.rows_paired += chunk.rows_paired
        self.pairs += sum(batch.num_rows for batch in chunk.batches.values())
        self.rows_by_file[chunk.file, chunk.split] += chunk.rows_read
        self.quarantined_by_code.update(row.code for row in chunk.quarantined)
        self.left_out_by_split[chunk.split] += chunk.left_out.total()
        self.left_out.update(chunk.left_out)
        self.pairs_left_out.update(chunk.pairs_left_out)
        self.unused_columns.update(chunk.unused_columns)
        self.warned.merge(chunk.warned)
        self.redacted.update(chunk.redacted)
        self.misfits.update(chunk.misfits)
        self.marks.merge(chunk.marks)

    def require_field(self, rows: int) -> None:
        """Raise InputError if the first rows all lack the same field.

        Args:
            rows: how many they must be.
        """
        row = self.first_lacking
        if row is not None and self.lacking >= rows:
            raise InputError(
                f"{row.file}:{row.line}: {row.message} All of the first {self.lacking:,} rows lack it.\n  {row.hint}"
            )

    def header(self, plan: ConversionPlan, files: Sequence[InputFile], skipped: Sequence[str] = ()) -> ManifestHeader:
        """Return the header of the manifest."""
        quarantined = self.quarantined_by_code.total()
        return ManifestHeader(
            status="rejected" if quarantined > plan.options.max_invalid * self.rows_read else "complete",
            name=plan.labels.get("name"),
            description=plan.labels.get("description"),
            license=plan.labels.get("license"),
            form=plan.form,
            form_reason=plan.form_reason,
            source=plan.parent or SourceEntry.model_validate(plan.source, from_attributes=True),
            options=plan.options,
            kept_columns={
                name: kept.model_copy(update={"misfits": self.misfits[name]}) for name, kept in plan.job.kept.items()
            },
            inputs=self._inputs(files),
            skipped=list(skipped),
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
                code: WarningCount(rows=rows, examples=examples)
                for code, (rows, examples) in self.warned.in_order(CHECK_HINTS).items()
            },
            redacted=dict(sorted(self.redacted.items())),
            judgments=self.judgments,
        )

    def _inputs(self, files: Sequence[InputFile]) -> list[InputEntry]:
        """Return the entries of the files: several for an archive, and for a file with rows of several splits."""
        entries: dict[str, list[InputEntry]] = {file.label: [] for file in files}
        for (name, split), rows in self.rows_by_file.items():
            label = name
            while label not in entries:  # a member of an archive
                label = label.rpartition("/")[0]
            entries[label].append(InputEntry(file=name, split=split, rows=rows))
        empty = {file.label: InputEntry(file=file.label, split=file.split, rows=0) for file in files}
        return [entry for label, found in entries.items() for entry in found or [empty[label]]]
