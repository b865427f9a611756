"""Order of the rows of a mix, by closed forms: any stretch of it can be computed alone.

Part i has n_i rows, and its row k has the key (2k + 1) / (2 n_i): the mix is all rows in the order of their keys, of
equal ones those of the earlier part first. Of P parts, one with the share s is never more than (1 + s P) / 2 rows from
its share. The order of a larger mix in the same ratios begins with that of the smaller one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def order_of(sizes: Sequence[int], start: int, stop: int) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Return which rows of each part are at the positions from `start` to before `stop` of a mix, and where.

    Args:
        sizes: number of rows of each part.
        start: first position.
        stop: position after the last one.

    Returns: for each part the number of its first row, and that after its last one; and the positions of all these
        rows, part by part, counted from `start`, (stop - start,).
    """
    firsts, lasts = cut(sizes, start), cut(sizes, stop)
    places = [
        _positions(sizes, part, np.arange(first, last))
        for part, (first, last) in enumerate(zip(firsts, lasts, strict=True))
    ]
    return list(zip(firsts, lasts, strict=True)), np.concatenate(places) - start


def cut(sizes: Sequence[int], position: int) -> list[int]:
    """Return how many rows of each part are before a position of the mix."""
    counts = []
    for part, size in enumerate(sizes):
        low, high = 0, size
        while low < high:
            middle = (low + high) // 2
            if _position(sizes, part, middle) < position:
                low = middle + 1
            else:
                high = middle
        counts.append(low)
    return counts


def _position(sizes: Sequence[int], part: int, row: int) -> int:
    """Return the position of a row in the mix."""
    position = row
    for other, size in enumerate(sizes):
        if other != part:
            position += _rows_before(size, sizes[part], 2 * row + 1, ties=other < part)
    return position


def _rows_before(size: int, of_part: int, twice: int, *, ties: bool) -> int:
    """Return how many rows of another part of that size have a smaller key than `twice / (2 of_part)`."""
    scaled = twice * size
    return (scaled // of_part + 1) // 2 if ties else -(-scaled // of_part) // 2


def _positions(sizes: Sequence[int], part: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(rows) and (2 * int(rows[-1]) + 1) * max(sizes) >= 1 << 62:
        return np.array([_position(sizes, part, row) for row in rows.tolist()], np.int64)
    position = rows.copy()
    for other, size in enumerate(sizes):
        if other != part and len(rows):
            scaled = (2 * rows + 1) * size
            position += (scaled // sizes[part] + 1) // 2 if other < part else -(-scaled // sizes[part]) // 2
    return position
