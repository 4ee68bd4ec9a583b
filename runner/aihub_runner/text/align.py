"""Align two lists: first the equal items, then the most similar ones in the gaps between. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

GAP = 1000  # larger gaps are not searched: the time is quadratic

Pairs = list[
    tuple[int | None, int | None]
]  # indexes in the first and the second list; None if an item has no counterpart
Likeness = Callable[[int, int], int]  # similarity of two items by their indexes, from 0


def common_length(left: str, right: str) -> int:
    """Return the length of the common prefix of two texts."""
    least, most = 0, min(len(left), len(right))
    while least < most:
        middle = (least + most + 1) // 2
        if left[least:middle] == right[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def align(before: Sequence[Hashable], after: Sequence[Hashable], likeness: Likeness) -> Pairs:
    """Pair equal items, and the most similar ones in between, in order. Other items are paired with None."""
    pairs: Pairs = []
    last_a = last_b = 0
    for a, b in [*_match(before, after), (len(before), len(after))]:
        pairs += _pair_gap(range(last_a, a), range(last_b, b), likeness)
        pairs.append((a, b))
        last_a, last_b = a + 1, b + 1
    return pairs[:-1]


def _match(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Find equal items that are in order on both sides."""
    from difflib import SequenceMatcher  # slow to import

    numbers: dict[Hashable, int] = {}
    left = [numbers.setdefault(item, len(numbers)) for item in before]
    right = [numbers.setdefault(item, len(numbers)) for item in after]
    found: list[tuple[int, int]] = []
    gaps = [(0, len(left), 0, len(right))]
    while gaps:
        a, a_end, b, b_end = gaps.pop()
        while a < a_end and b < b_end and left[a] == right[b]:
            found.append((a, b))
            a, b = a + 1, b + 1
        while a < a_end and b < b_end and left[a_end - 1] == right[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
            found.append((a_end, b_end))
        if a == a_end or b == b_end:
            continue
        if a_end - a < GAP and b_end - b < GAP:
            blocks = SequenceMatcher(None, left[a:a_end], right[b:b_end], autojunk=False).get_matching_blocks()
            found += [(a + block.a + n, b + block.b + n) for block in blocks for n in range(block.size)]
        elif anchors := _find_anchors(left[a:a_end], right[b:b_end]):
            places = [(a + i, b + j) for i, j in anchors]
            found += places
            starts = [(a, b), *((i + 1, j + 1) for i, j in places)]
            ends = [*places, (a_end, b_end)]
            gaps += [(i, i_end, j, j_end) for (i, j), (i_end, j_end) in zip(starts, ends, strict=True)]
    return sorted(found)


def _find_anchors(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """Find the longest sequence of items that occur once on each side, in the same order."""
    once = {item for item, number in Counter(left).items() if number == 1}
    once &= {item for item, number in Counter(right).items() if number == 1}
    place = {item: j for j, item in enumerate(right) if item in once}
    common = [(i, place[item]) for i, item in enumerate(left) if item in once]
    tails: list[int] = []  # the smallest end of a sequence of each length
    lasts: list[int] = []  # where in `common` that is
    previous: list[int] = []
    for index, (_, j) in enumerate(common):
        length = bisect_left(tails, j)
        previous.append(lasts[length - 1] if length else -1)
        tails[length : length + 1] = [j]
        lasts[length : length + 1] = [index]
    row = []
    index = lasts[-1] if lasts else -1
    while index >= 0:
        row.append(common[index])
        index = previous[index]
    return row[::-1]


def _pair_gap(left: range, right: range, likeness: Likeness) -> Pairs:
    """Pair the most similar items in a gap. In a large gap, pair items by position."""
    if len(left) == len(right) == 1 or not left or not right or max(len(left), len(right)) >= GAP:
        both = min(len(left), len(right))
        pairs: Pairs = [*zip(left[:both], right[:both], strict=True)]
        return [*pairs, *((a, None) for a in left[both:]), *((None, b) for b in right[both:])]
    like = [[1 + likeness(a, b) for b in right] for a in left]
    best = _best_sums(like)
    pairs, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if best[i][j] == like[i][j] + best[i + 1][j + 1]:
            pairs.append((left[i], right[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((left[i], None))
            i += 1
        else:
            pairs.append((None, right[j]))
            j += 1
    return [*pairs, *((a, None) for a in left[i:]), *((None, b) for b in right[j:])]


def _best_sums(like: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the largest sum of similarities for the pairs from each two indexes on."""
    width = len(like[0])
    best = [[0] * (width + 1)]
    for row in reversed(like):
        below = best[-1]
        sums = [0] * (width + 1)
        for j in range(width - 1, -1, -1):
            sums[j] = max(row[j] + below[j + 1], below[j], sums[j + 1])
        best.append(sums)
    return best[::-1]
