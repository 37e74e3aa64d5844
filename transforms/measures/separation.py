"""Whether a pair lies on the noisy side of a plane in the space of embeddings: linear separation."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from transforms.measure import CollectiveMeasure, Column


class Separation(CollectiveMeasure):
    """The probability to be noise, by linear models of the pairs that another signal is certain of.

    Albert et al. 2024, "An accurate detection is not all you need to combat label noise in web-noisy
    datasets" (LSA): in contrastive features noisy pairs are linearly separable from clean ones, and
    linear separation alternates with small loss. The features are both embeddings and their
    product, the loss is 1 - cosine, and models are fitted to a sample drawn by uid hash, cross-fitted
    over folds by another hash: no model scores a pair that it has seen. A pair that the models call
    noise is rescued, and keeps the seeding signal's verdict, where that says clean (below .1) and
    the small-loss detector keeps the pair at the noise rate that the models found.

    Seeds are pairs whose p_noise by the signal `seeds` is above .9 or below .1. A score becomes
    p_noise by the mixture of two groups that `drop_mismatched` fits, where the sample shows two;
    else the lowest `noisy_share` of the sample counts as noise and the highest `clean_share` as
    clean. That is a guess: look at the summary, which says which of them it was. With too few seeds
    all rows are null, and the summary says why.

    Off by default: on 10,000 pairs with labels from people, 17 % wrong, it does not beat plain
    `1 - clip_cosine`, with AUROC .908 and average precision .757. Seeded by the tails of that cosine
    its log odds have .901 and .748, by `p_mislabelled` of `label_errors` .903 and .763; with one round, which
    does not alternate, .904 and .751, and .910 and .764.
    """

    encoder_name: str = Field(
        default="clip", alias="encoder", description="The CLIP measure whose embeddings are separated."
    )
    seeds: str | None = Field(
        default=None, description="Signal that is certain of some pairs; none: the encoder's cosine."
    )
    seeds_say: Literal["agreement", "doubt", "p_clean", "p_noise"] = Field(
        default="agreement",
        description="A score that is high for clean pairs, or for noise; or a probability.",
    )
    noisy_share: float = Field(
        default=0.1, gt=0, le=0.5, description="Scores without two groups: the lowest that are noise."
    )
    clean_share: float = Field(
        default=0.5, gt=0, le=0.5, description="Scores without two groups: the highest that are clean."
    )
    sample: int = Field(
        default=50_000,
        ge=2,
        le=1_000_000,
        description="Pairs that models are fitted to; 2 GB for 50,000 x 512.",
    )
    rounds: int = Field(default=3, ge=1, le=100, description="How often models and small loss alternate.")
    penalty: float = Field(default=1.0, gt=0, description="On the squared weights of standardised features.")
    least_seeds: int = Field(
        default=50, ge=1, description="Fewest seeds of each side that a model is fitted to."
    )
    # Drawn by the hash that deals out folds, a small sample would be of one fold.
    seed: int = Field(default=1, ge=1, lt=2**31, description="Seed of the draw; 0 is that of the folds.")

    @property
    def relation(self) -> str:
        return "separation"

    @property
    def signal(self) -> str:
        """The column that seeds come from."""
        return f"{self.encoder_name}_cosine" if self.seeds is None else self.seeds

    def columns(self, name: str) -> tuple[Column, ...]:
        return (
            Column(name, pa.float32(), "probability to be noise, by linear separation", "0..1"),
            Column(f"{name}_log_odds", pa.float32(), "its log odds, which tell apart what rounds to 1"),
            Column(f"{name}_rescued", pa.bool_(), "called noise by the models, clean by seed and small loss"),
        )

    def reads(self) -> tuple[str, ...]:
        return (self.signal,)

    def embeddings(self) -> tuple[str, ...]:
        return (f"{self.encoder_name}_image", f"{self.encoder_name}_text")
