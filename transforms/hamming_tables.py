"""How binary codes are cut into pieces, so that near ones agree exactly in some of them.

Two codes within the radius nearly agree in one of their 32-bit blocks, and in some pieces of that
block they agree exactly: the pigeonhole principle, twice.

* A code of m blocks is given error bounds t_1 .. t_m with sum(t_b + 1) = radius + 1. If every block
  b differed in more than t_b bits, the codes would differ in more than `radius`; so one block is
  within its bound. For 256 bits and radius 31 these are eight blocks with 3 errors each.
* A block with at most t errors, cut into p pieces, has p - t pieces without any. Each choice of
  p - t pieces is a table: codes are sorted by those bits, and those of one bucket are compared.

The blocks are those of multi-index hashing (Norouzi, Punjani, Fleet: Fast Exact Search in Hamming
Space with Multi-Index Hashing, IEEE TPAMI 36(6), 2014, section 3), the bounds those of Qin et al.
(GPH: Similarity Search in Hamming Space, ICDE 2018). There the keys around each query's are probed;
we sort by chosen pieces instead, as Manku, Jain, Das Sarma do (Detecting Near-Duplicates for Web
Crawling, WWW 2007, section 3): a sort and reads in sequence suit numpy, probes do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

BLOCK_BITS = 32
MOST_PIECES = 16
# Seconds to sort one code into one table, and to compare one pair; they choose how finely blocks
# are cut, so only speed depends on them.
SORT_SECONDS, COMPARE_SECONDS = 40e-9, 8e-9


@dataclass(frozen=True)
class Table:
    """One choice of pieces that have to agree.

    Attributes:
        block: number of the 32-bit word.
        bounds: (blocks,) how many bits may differ in each block; -1 for a block that needs no table.
        fields: (lowest bit, width) of each piece.
        chosen: numbers of the pieces that agree, ascending.
    """

    block: int
    bounds: tuple[int, ...]
    fields: tuple[tuple[int, int], ...]
    chosen: tuple[int, ...]

    @property
    def errors(self) -> int:
        """The most bits that may differ in the block."""
        return self.bounds[self.block]

    @property
    def key_bits(self) -> int:
        """How many bits agree within a bucket."""
        return sum(self.fields[piece][1] for piece in self.chosen)

    def arranged(self) -> tuple[list[tuple[int, int, int]], list[int]]:
        """How a word is put in order, the chosen pieces on top.

        Returns: (lowest bit, mask, lowest bit afterwards) of each piece; and the masks, afterwards,
        of those pieces that must differ, as otherwise an earlier choice finds the pair.
        """
        moves, differ, top = [], [], BLOCK_BITS
        others = [piece for piece in range(len(self.fields)) if piece not in self.chosen]
        for piece in (*self.chosen, *others):
            lowest, width = self.fields[piece]
            top -= width
            moves.append((lowest, (1 << width) - 1, top))
            if piece in others and piece < self.chosen[-1]:
                differ.append(((1 << width) - 1) << top)
        return moves, differ


def make_tables(blocks: int, radius: int, rows: int, pairs: int) -> tuple[Table, ...]:
    """The tables that find every pair within the radius.

    rows, pairs: how many codes are sorted and how many pairs there are; they decide how finely
    blocks are cut.
    """
    bounds = tuple((radius + 1) // blocks - (block >= (radius + 1) % blocks) for block in range(blocks))
    cuts = {errors: _pieces(errors, rows, pairs) for errors in set(bounds) if errors >= 0}
    return tuple(
        Table(block, bounds, _fields(cuts[errors]), chosen)
        for block, errors in enumerate(bounds)
        if errors >= 0
        for chosen in combinations(range(cuts[errors]), cuts[errors] - errors)
    )


def _fields(pieces: int) -> tuple[tuple[int, int], ...]:
    edges = [BLOCK_BITS * piece // pieces for piece in range(pieces + 1)]
    return tuple((low, high - low) for low, high in pairwise(edges))


def _pieces(errors: int, rows: int, pairs: int) -> int:
    """Into how many pieces to cut a block: more tables to sort, or more pairs to compare."""

    def seconds(pieces: int) -> float:
        agree = pieces - errors
        wide = BLOCK_BITS % pieces  # so many pieces are one bit wider
        width = BLOCK_BITS // pieces
        share: float = sum(
            math.comb(wide, some) * math.comb(pieces - wide, agree - some) / 2 ** (width * agree + some)
            for some in range(agree + 1)
        )
        tables = math.comb(pieces, agree)
        return tables * rows * SORT_SECONDS + share * pairs * COMPARE_SECONDS

    return min(range(errors + 1, MOST_PIECES + 1), key=seconds)


def expected_comparisons(blocks: int, radius: int, rows: int, pairs: float) -> float:
    """How many of so many pairs of random codes the tables would compare."""
    tables = make_tables(blocks, radius, rows, max(1, round(pairs)))
    return sum(pairs / float(2**table.key_bits) for table in tables)
