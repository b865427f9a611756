"""Problems of pairs: findings of the checks, and ids that do not match the text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_data.checks import (
    DATASET_CHECKS,
    DEEP_ROW_CHECKS,
    RowCheck,
    run_row_checks,
    select_row_checks,
)
from dpo_data.checks.contamination import contamination
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.checks.deep import DeepChecks, require_libraries
from dpo_data.checks.eos_in_response import CHECK as EOS_IN_RESPONSE
from dpo_data.checks.eos_in_response import for_tokenizer
from dpo_data.checks.one_sided_marker import OneSidedMarks
from dpo_data.checks.row_keys import RowKeyStore, RowPosition, run_dataset_checks
from dpo_data.inspect.batches import PairBatch
from dpo_data.inspect.pairs import PairPosition
from dpo_data.options import SPLITS
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.reader import Prepared, column_lookup
from dpo_data.tokens.encoder import Encoder


@dataclass(frozen=True)
class ExtraChecks:
    """Checks beyond those of `convert`.

    Attributes:
        row_checks: further checks of single pairs.
        deep: run the deep checks over the whole dataset too.
        max_examples: examples to keep of each finding.
    """

    row_checks: Sequence[RowCheck] = ()
    deep: bool = False
    max_examples: int = MAX_EXAMPLES


def extra_checks(
    deep: bool = False, against: Sequence[str | Path] = (), max_examples: int = MAX_EXAMPLES
) -> ExtraChecks:
    """Return the checks that a user asks for.

    Raises:
        InputError, UsageError: an evaluation set in `against` cannot be read; `deep` without its libraries.
    """
    if deep:
        require_libraries()
    row_checks = (*(DEEP_ROW_CHECKS if deep else ()), *([contamination(against)] if against else []))
    return ExtraChecks(row_checks, deep, max_examples)


class Findings:
    """Observer that checks every pair, and the whole dataset at the end.

    Args:
        prepared: the folder.
        checks: checks beyond those of `convert`.
        encoder: its end-of-sequence token is looked for in the responses.
        deep: runs the deep checks; None if they are not wanted.

    Attributes:
        errors: findings of severity error.
        warnings: findings of severity warning.
        refused: pairs that the chat template refuses.
        damage: split to what is wrong with one of its rows.
        pairs: number of pairs seen, by split.
        positions: origin that starts an example to the position of its pair.
    """

    def __init__(
        self, prepared: Prepared, checks: ExtraChecks, encoder: Encoder | None = None, deep: DeepChecks | None = None
    ) -> None:
        self._prepared = prepared
        row_checks = _checks_of(prepared.manifest, encoder)
        self._row_checks = (*(deepened(row_checks) if checks.deep else row_checks), *checks.row_checks)
        self._max_examples = checks.max_examples
        self._deep = deep
        self.errors, self.warnings = CodeCounts(checks.max_examples), CodeCounts(checks.max_examples)
        self.refused = CodeCounts(checks.max_examples)
        self.damage: dict[str, str] = {}
        self.pairs = Counter[str]()
        self.positions: dict[str, PairPosition] = {}
        self._marks = OneSidedMarks(checks.max_examples)

    def add(self, batch: PairBatch) -> None:
        """Check more pairs."""
        self.pairs[batch.split] += len(batch.rows)
        self._check_ids(batch)
        for row, pair in enumerate(batch.rows):
            if self._marks.add(pair.origin, batch.texts[row], pair.id):
                self.positions.setdefault(pair.origin, PairPosition(batch.split, batch.start + row))
            for check, finding in run_row_checks(pair, self._row_checks):
                counts = self.errors if check.severity == "error" else self.warnings
                counts.add(check.code, [f"{pair.origin}: {finding.message}"], ids=[pair.id])
                if counts.rows[check.code] <= self._max_examples:
                    self.positions.setdefault(pair.origin, PairPosition(batch.split, batch.start + row))
            if batch.tokens is not None and row in batch.tokens.refused:
                refusal = batch.tokens.refused[row]
                self.refused.add(refusal.reason, [f"{pair.origin}: {refusal.message}"], ids=[pair.id])
        if self._deep is not None:
            self._deep.add(batch.rows, batch.keys)

    def _check_ids(self, batch: PairBatch) -> None:
        pair_ids, prompt_keys = (batch.keys[name].tobytes().hex() for name in ("pair", "prompt"))
        if "".join(batch.ids) == pair_ids and "".join(pair.prompt_key for pair in batch.rows) == prompt_keys:
            return
        for row, pair in enumerate(batch.rows):
            digits = slice(32 * row, 32 * row + 32)
            if (pair.id, pair.prompt_key) != (pair_ids[digits], prompt_keys[digits]):
                self.damage[batch.split] = (
                    f"{pair.origin}: id or prompt_key does not match the text; the row was changed"
                )

    def check_dataset(self, keys: RowKeyStore) -> None:
        """Add the findings over all pairs, whose keys are in a store."""
        origin_in_shard, id_of = (
            column_lookup(self._prepared.path, self._prepared.manifest.splits, column) for column in ("origin", "id")
        )

        def origin_of(row: RowPosition) -> str:
            origin = origin_in_shard(row)
            self.positions.setdefault(origin, PairPosition(SPLITS[row.split], row.position))
            return origin

        self.warnings.merge(run_dataset_checks(keys, DATASET_CHECKS, origin_of, self._max_examples, id_of))
        self.warnings.merge(self._marks.findings())
        if self._deep is not None:
            self.warnings.merge(self._deep.findings(origin_of, self._max_examples, id_of))


def deepened(checks: Iterable[RowCheck]) -> Iterator[RowCheck]:
    """Yield the checks for `validate --deep`: with `find_deep` in place of `find` where there is one.

    What only `find_deep` finds is a warning, so that an error keeps its check, and the other one follows it.
    """
    for check in checks:
        if check.find_deep is None:
            yield check
            continue
        if check.severity == "error":
            yield check
        yield replace(check, find=check.find_deep, severity="warning")


def _checks_of(manifest: Manifest, encoder: Encoder | None) -> tuple[RowCheck, ...]:
    """Return the row checks of `convert` with its options, looking for the tokenizer's own end-of-sequence token."""
    checks = select_row_checks(manifest.options.forbid, manifest.options.allow)
    if encoder is None:
        return checks
    eos = encoder.tokenizer.eos_token
    return tuple(for_tokenizer(check, eos) if check.code == EOS_IN_RESPONSE.code else check for check in checks)
