"""Deep checks over a whole dataset, fed batch by batch; too slow for convert."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from hashlib import blake2b
from pathlib import Path
from unicodedata import normalize

import numpy as np

from dpo_data.checks.check import DEEP_ROW_KEY, DatasetCheck, RowKeys
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.language_mismatch import languages
from dpo_data.checks.near_prompts import NearPrompts
from dpo_data.checks.personal_data import redact
from dpo_data.checks.row_keys import RowKeyStore, RowPosition, run_dataset_checks
from dpo_data.errors import argument, require_packages
from dpo_data.records import FIELDS, PreferencePair

LIBRARIES = ("babel", "datasketch", "ftfy", "phonenumbers", "py3langid", "rapidfuzz", "spellchecker")


def require_libraries() -> None:
    """Raise UsageError, with the command that installs them, if libraries of the deep checks are missing."""
    require_packages(argument("deep", True), *LIBRARIES)


class DeepChecks:
    """State of the deep checks over a whole dataset: counts, and row keys on disk.

    Attributes:
        languages: field -> language, or "undecided" -> number of pairs; for the prompt, the last user turn is used.
        personal_data: kind -> occurrences in all fields of all pairs.
    """

    def __init__(self, folder: Path, checks: Sequence[DatasetCheck]) -> None:
        self._checks = checks
        self._near_prompts = NearPrompts()
        self._open_stores = ExitStack()
        self._stores = {
            by: self._open_stores.enter_context(closing(RowKeyStore(folder / by, by, DEEP_ROW_KEY)))
            for by in dict.fromkeys(check.by for check in checks)
        }
        self.languages = {field: Counter[str]() for field in FIELDS}
        self.personal_data = Counter[str]()

    def add(self, pairs: Sequence[PreferencePair], keys: RowKeys) -> None:
        """Add consecutive pairs with their keys."""
        table = np.empty(len(keys), DEEP_ROW_KEY)
        for name in keys.dtype.names or ():
            table[name] = keys[name]
        for row, pair in enumerate(pairs):
            texts = pair.texts
            for field, language in zip(FIELDS, languages(pair, texts), strict=True):
                self.languages[field][language or "undecided"] += 1
            for text in texts:
                self.personal_data += redact(text)[1]
            prompt_key = keys["prompt"][row].tobytes()
            table["near_prompt"][row] = np.void(self._near_prompts.first_like(prompt_key, texts[0]))
            prompt, chosen, rejected = (_hash(_normalized(text)) for text in texts)
            table["normalized_unordered"][row] = np.void(_hash(prompt + min(chosen, rejected) + max(chosen, rejected)))
            table["normalized_chosen"][row] = np.void(chosen)
            table["chosen_characters"][row] = min(len(texts[1].strip()), 2**32 - 1)
        for store in self._stores.values():
            store.add(table)

    def findings(
        self,
        origin_of: Callable[[RowPosition], str],
        max_examples: int,
        id_of: Callable[[RowPosition], str] | None = None,
    ) -> CodeCounts:
        """Return the findings in all pairs added so far; no more pairs can be added afterwards."""
        counts = CodeCounts(max_examples)
        for by, store in self._stores.items():
            checks = [check for check in self._checks if check.by == by]
            counts.merge(run_dataset_checks(store, checks, origin_of, max_examples, id_of))
        return counts

    def language_counts(self) -> dict[str, dict[str, int]]:
        """Return field -> language, or "undecided" -> number of pairs, the most frequent language first."""
        return {field: dict(counts.most_common()) for field, counts in self.languages.items()}

    def close(self) -> None:
        """Close the key files."""
        self._open_stores.close()


def _normalized(text: str) -> bytes:
    return " ".join(normalize("NFKC", text).casefold().split()).encode()


def _hash(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()
