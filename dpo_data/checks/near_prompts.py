"""Which prompts are nearly the same, by sketches of their words (MinHash and LSH)."""

from typing import Any
from zlib import crc32

from dpo_data.checks.text import ngrams, words

#: Share of common word triples (Jaccard) from which two prompts are nearly the same.
MIN_SIMILARITY = 0.8
#: Numbers in a sketch; the estimate of the share is then right to about 0.035.
SKETCH_SIZE = 128
TRIPLE = 3


class NearPrompts:
    """The distinct prompts seen so far, none of them near another; needs the library datasketch.

    Memory grows with distinct prompts, by about 5 KB each, whatever their length.
    Source: Broder 1997, On the resemblance and containment of documents.
    """

    def __init__(self) -> None:
        from datasketch import MinHash, MinHashLSH

        self._empty: Any = MinHash(num_perm=SKETCH_SIZE, seed=1, hashfunc=crc32)
        self._index: Any = MinHashLSH(threshold=MIN_SIMILARITY, num_perm=SKETCH_SIZE)
        self._first: dict[bytes, bytes] = {}
        self._sketches: dict[bytes, Any] = {}

    def first_like(self, key: bytes, prompt: str) -> bytes:
        """The key of the first prompt that this one, which has that key, is near; its own where there is none."""
        if key not in self._first:
            sketch = self._empty.copy()
            sketch.update_batch(triple.encode() for triple in set(ngrams(words(prompt), TRIPLE)))
            self._first[key] = self._find(sketch) or key
            if self._first[key] == key:
                self._index.insert(key, sketch, check_duplication=False)
                self._sketches[key] = sketch
        return self._first[key]

    def _find(self, sketch: Any) -> bytes | None:
        similar = [(sketch.jaccard(self._sketches[key]), key) for key in self._index.query(sketch)]
        similarity, key = max(similar, default=(0.0, b""))
        return key if similarity >= MIN_SIMILARITY else None
