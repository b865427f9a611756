"""Prompts that a step would put into train and into test."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np

from dpo_data.checks.check import RowKeys
from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.errors import UsageError, argument
from dpo_data.options import SPLITS, OnLeak
from dpo_data.shaping.rows import Rows, keys_column, ranges
from dpo_data.shaping.verdicts import Verdicts

#: The prompt of a row, its new split, and where the row is.
LEAK_KEY = np.dtype([("prompt", "V16"), ("target", "u1"), ("split", "u1"), ("index", "u8")])
TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


def resolve_leaks(rows: Rows, verdicts: Verdicts, on_leak: OnLeak, scratch: Path) -> None:
    """Leave out or move rows so that no prompt is in train and in test.

    Args:
        rows: all rows.
        verdicts: of the rows; those that are left out do not count.
        on_leak: leave out the pairs in train ("drop-train") or in test ("drop-test"), move those in train to test
            ("move"), or "refuse".
        scratch: folder for keys.

    Raises: UsageError: with "refuse", the first such prompt.
    """
    with closing(RowKeyStore(scratch / "leaks", dtype=LEAK_KEY)) as store:
        targets = Counter[int]()
        for range_ in ranges(rows):
            kept = verdicts.kept(range_)
            if len(kept):
                keys = np.empty(len(kept), LEAK_KEY)
                keys["prompt"] = keys_column(rows.read(range_), "prompt_key")[kept - range_.start]
                keys["target"] = verdicts.splits(range_)[kept - range_.start]
                keys["split"], keys["index"] = SPLITS.index(range_.split), kept
                targets.update(dict(enumerate(np.bincount(keys["target"], minlength=len(SPLITS)).tolist())))
                store.add(keys)
        leaking = 0
        for keys in store.buckets() if targets[TRAIN] and targets[TEST] else ():
            in_train, in_test = keys[keys["target"] == TRAIN], keys[keys["target"] == TEST]
            train = in_train[np.isin(in_train["prompt"], in_test["prompt"])]
            leaking += len(train)
            if on_leak == "drop-train":
                _leave_out(verdicts, train, "prompt_in_test")
            elif on_leak == "drop-test":
                _leave_out(verdicts, in_test[np.isin(in_test["prompt"], in_train["prompt"])], "prompt_in_train")
            elif on_leak == "move":
                for number, split in enumerate(SPLITS):
                    verdicts.move(split, train["index"][train["split"] == number].astype(np.int64), "test")
        store.remove()
    if leaking and on_leak == "refuse":
        raise UsageError(
            f"{leaking:,} pairs in train have a prompt that is in test too.\n"
            f"  Leave them out: {argument('on_leak', 'drop-train')}; or move them: {argument('on_leak', 'move')}."
        )


def _leave_out(verdicts: Verdicts, keys: RowKeys, reason: str) -> None:
    for number, split in enumerate(SPLITS):
        verdicts.leave_out(split, keys["index"][keys["split"] == number].astype(np.int64), reason)
