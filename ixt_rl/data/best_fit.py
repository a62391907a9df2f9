"""Best-fit decreasing: which pieces share a row."""

from __future__ import annotations

from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of indices into `lengths`; each row sums to at most `capacity`, and each index comes once.

    Longest first, each piece goes into the row with the least room that it still fits into. Rows are kept by their
    room, and a bit set says which rooms there are, so that a piece costs a few integer operations.

    Args:
        lengths: tokens of each piece, each from 1 to `capacity`.
        capacity: tokens of a row.

    Returns:
        The rows, the indices of each in ascending order.
    """
    rows_with: list[list[list[int]]] = [[] for _ in range(capacity + 1)]  # open rows by their room
    rooms = 0  # bit r is set where rows_with[r] is not empty
    rows: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[index]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, []
            rows.append(row)
        row.append(index)
        room -= length
        rows_with[room].append(row)
        rooms |= 1 << room
    return [sorted(row) for row in rows]
