"""LEMoN: how much a pair disagrees with the captions of like images and the images of like captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.deciding import DecidePart
from transforms.noise.neighbourhood import PairReference, lemon, pair_reference
from transforms.referenced import ReferencedRelation


class Neighbourhood(ReferencedRelation):
    """A pure map over the pool, once the reference pairs are drawn and near copies among them left out."""

    @property
    def sample_rows(self) -> int:
        return int(self.rule.reference)

    @cached_property
    def pairs(self) -> PairReference:
        """The reference pairs, ready to be searched."""
        found = self.reference
        arrays = (np.asarray(found[name]) for name in ("image", "text", "uid"))
        return pair_reference(*arrays, exact=self.rule.exact)

    def scores(
        self, image: NDArray[np.float16], text: NDArray[np.float16], uids: NDArray[np.uint64]
    ) -> dict[str, NDArray[np.float32]]:
        found = lemon(
            image,
            text,
            self.pairs,
            uids=uids,
            k=self.rule.neighbours,
            beta=self.rule.beta,
            gamma=self.rule.gamma,
            t1=self.rule.t1,
            t2=self.rule.t2,
        )
        return {self.scope.name: found.score}

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:  # noqa: ARG002
        return {"drawn": len(self.reference), "reference": len(self.pairs.uids)}
