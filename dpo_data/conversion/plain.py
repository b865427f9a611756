"""Rows whose pairs have no findings, converted column by column at half the cost of one by one.

What a source or a check cannot decide for whole columns is left to `dpo_data.conversion.adapt`: results are equal.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.checks.one_sided_marker import suspects as marked_suspects
from dpo_data.conversion.adapt import ConversionJob, EncodedFields
from dpo_data.prepared.schema import PairColumns
from dpo_data.readers.rows import RawRow
from dpo_data.records import PairKeys, PairTexts, TextPair, keys_of_columns
from dpo_data.sources.source import Source

#: Texts of more characters are not held a second time.
MAX_CHARACTERS = 1 << 26


class PlainRun(NamedTuple):
    """Consecutive rows, each of which is one pair without findings.

    Attributes:
        start: number of the first row in its chunk.
        fields: of each pair.
        keys: of each pair.
        marked: the texts of pairs that may have a one-sided mark, by their number in the run.
    """

    start: int
    fields: list[EncodedFields]
    keys: list[PairKeys]
    marked: dict[int, PairTexts]

    @property
    def stop(self) -> int:
        """Number of the row after the last one."""
        return self.start + len(self.fields)


def plain_runs(rows: Sequence[RawRow], source: Source, job: ConversionJob) -> Iterator[PlainRun]:
    """Yield the runs of plain rows of one chunk, in order."""
    if not _may_be_plain(source, job) or source.adapt_columns is None:
        return
    columns = set(source.columns)
    candidates = {
        number: row.value
        for number, row in enumerate(rows)
        if row.warning is None and isinstance(row.value, dict) and row.value.keys() == columns
    }
    adapted = source.adapt_columns(list(candidates.values()), job.options)
    of_candidate = list(candidates)
    numbers = [of_candidate[position] for position in adapted.rows]
    sides = (adapted.prompts, adapted.chosen, adapted.rejected)
    if not numbers or sum(map(len, chain.from_iterable(sides))) > MAX_CHARACTERS:
        return
    try:
        texts = TextColumns(*sides)
    except UnicodeEncodeError:
        return
    triples = list(zip(*sides, strict=True))
    kept = np.flatnonzero(~_found(texts, triples, job))
    if not len(kept):
        return
    fields = list(zip(*(field.texts for field in texts.fields), strict=True))
    keys = keys_of_columns(*(field.texts for field in texts.fields))
    may_have_mark = marked_suspects(texts)
    # A run ends where a row is left out, or has findings.
    ends = np.flatnonzero(np.diff(np.array(numbers)[kept]) != 1) + 1
    for positions in np.split(kept, ends):
        first, last = int(positions[0]), int(positions[-1]) + 1
        yield PlainRun(
            numbers[first],
            fields[first:last],
            keys[first:last],
            {int(marked): triples[first + marked] for marked in np.flatnonzero(may_have_mark[first:last])},
        )


def _may_be_plain(source: Source, job: ConversionJob) -> bool:
    """Return True if the pairs of a job are nothing but three texts, in the split of their file."""
    return (
        job.options.form == "text"
        and not (source.has_scores or source.grouping or source.row_split or source.contents)
        and job.columns == PairColumns()
        and not (job.kept or job.redact or job.where or job.test_fraction or job.only_split)
    )


def _found(columns: TextColumns, texts: Sequence[PairTexts], job: ConversionJob) -> Suspects:
    """Return True for each pair about which a check has a finding."""
    found = columns.prompt.none()
    for check in job.checks:
        suspects = ~found if check.suspects is None else check.suspects(columns) & ~found
        for number in np.flatnonzero(suspects).tolist():
            prompt, chosen, rejected = texts[number]
            pair = TextPair(prompt=prompt, chosen=chosen, rejected=rejected)
            found[number] = check.find(pair, texts[number]) is not None
    return found
