"""Near-duplicate prompts, detected by MinHash sketches of their words and locality-sensitive hashing."""

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import RowKeys, first_row_of_group, first_train_row_of_group, with_first_row
from dpo_data.checks.text import ngrams, words
from dpo_data.options import SPLITS

#: Jaccard similarity of word triples from which two prompts are near duplicates.
MIN_SIMILARITY = 0.8
#: Numbers per sketch; the similarity is then estimated to about 0.035.
SKETCH_SIZE = 128
TRIPLE = 3


class NearPrompts:
    """Index of the distinct prompts seen so far, without those that are near another; needs datasketch.

    Memory grows by about 5 KB per distinct prompt of any length.
    Source: Broder 1997, On the resemblance and containment of documents.
    """

    def __init__(self) -> None:
        from datasketch import MinHash, MinHashLSH

        self._empty: Any = MinHash(num_perm=SKETCH_SIZE, seed=1, hashfunc=crc32)
        self._index: Any = MinHashLSH(threshold=MIN_SIMILARITY, num_perm=SKETCH_SIZE)
        self._first: dict[bytes, bytes] = {}
        self._sketches: dict[bytes, Any] = {}

    def first_like(self, key: bytes, prompt: str) -> bytes:
        """Return the key of the first prompt that is near this one, or its own key; add it to the index if it is new.

        Args:
            key: key of the prompt.
            prompt: its text.
        """
        if key not in self._first:
            sketch = self._empty.copy()
            sketch.update_batch(word_triples(prompt))
            self._first[key] = self._nearest(sketch) or key
            if self._first[key] == key:
                self._index.insert(key, sketch, check_duplication=False)
                self._sketches[key] = sketch
        return self._first[key]

    def _nearest(self, sketch: Any) -> bytes | None:
        similar = [(sketch.jaccard(self._sketches[key]), key) for key in self._index.query(sketch)]
        similarity, key = max(similar, default=(0.0, b""))
        return key if similarity >= MIN_SIMILARITY else None


def word_triples(text: str) -> list[bytes]:
    """Return the distinct runs of three words of a text, without case and punctuation, sorted."""
    return sorted(triple.encode() for triple in set(ngrams(words(text), TRIPLE)))


def near_rows(keys: RowKeys, *, across_splits: bool) -> NDArray[np.intp]:
    """Return each row whose prompt is near, but not equal to, that of an earlier row, with the first such row, (N, 2).

    Args:
        keys: deep row keys.
        across_splits: return the test rows that are near a train row, whichever was read first; otherwise rows that are
            near an earlier row of their own split.
    """
    if across_splits:
        first = first_train_row_of_group(keys, "near_prompt")
        differs = keys["prompt"] != keys["prompt"][first]
        return with_first_row((keys["split"] != SPLITS.index("train")) & (first >= 0) & differs, first)
    first = first_row_of_group(keys, "near_prompt")
    differs = keys["prompt"] != keys["prompt"][first]
    return with_first_row(differs & (keys["split"] == keys["split"][first]), first)
