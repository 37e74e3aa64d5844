"""s-CLIPLoss against one frozen bank: the pairs with the smallest hash of their uids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filters.core.uids import uid_places
from transforms.noise.clip_loss import bank_scores
from transforms.referenced import ReferencedRelation


class SClipLossBank(ReferencedRelation):
    """A pure map over the pool, once the bank is drawn."""

    @property
    def sample_rows(self) -> int:
        return int(self.rule.batch)

    def scores(
        self, image: NDArray[np.float16], text: NDArray[np.float16], uids: NDArray[np.uint64]
    ) -> dict[str, NDArray[np.float32]]:
        bank = self.reference
        found = bank_scores(
            image,
            text,
            np.asarray(bank["image"]),
            np.asarray(bank["text"]),
            own=uid_places(uids, np.asarray(bank["uid"])),
            temperature=self.rule.temperature,
            reference_batch=self.rule.batch,
        )
        return {self.scope.name: found}
