"""Linear separation alternated with small loss: models of a sample's seeds, then a map over the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from filters.core.declaration import Columns, numbers, require_number
from filters.core.errors import RecipeError, StoreError
from filters.core.separation import (
    CERTAIN_CLEAN,
    CERTAIN_NOISE,
    Alternation,
    Linear,
    pair_features,
    separate,
    small_loss,
    uid_folds,
)
from filters.core.uids import parse_uids
from transforms.clustering import Floats, unit_rows
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.fitted import DrawnSample, FittedRelation
from transforms.noise.seeding import Seeding, seeding

MOST_ODDS = 700.0  # exp of more is infinite
_ROWS_AT_ONCE = 4096


class Separation(FittedRelation):
    """The artefact is a plane for each fold, and what else a row's answer depends on."""

    note_fields: ClassVar[tuple[tuple[str, str], ...]] = (("signal", "<f8"),)

    @property
    def sample_rows(self) -> int:
        return int(self.rule.sample)

    def notes(self, columns: Columns) -> Records:
        signal = columns[self.rule.signal]
        found = np.zeros(len(signal), list(self.note_fields))
        if len(signal):
            _require_number(self.scope.name, self.rule.signal, signal.type)
            found["signal"] = numbers(signal)
        return found

    def fit(self, sample: DrawnSample) -> None:
        signal = sample.notes["signal"]
        try:
            seeds = seeding(signal, self.rule.seeds_say, self.rule.noisy_share, self.rule.clean_share)
        except ValueError as cause:
            msg = f"measure {self.scope.name}: {self.rule.signal}: {cause}"
            raise RecipeError(msg) from cause
        p_noise = seeds.p_noise(signal)
        about = {
            "sample": len(signal),
            "seeds": {
                "from": self.rule.signal,
                "noisy": int(np.count_nonzero(p_noise > CERTAIN_NOISE)),
                "clean": int(np.count_nonzero(p_noise < CERTAIN_CLEAN)),
                **asdict(seeds),
            },
            "noise_rate": None,
            "largest_small_loss": None,
            "reason": f"{self.rule.signal}: {seeds.reason}" if seeds.by == "nothing" else None,
        }
        images, texts = (unit_rows(stored)[0] for stored in sample.vectors)
        planes = np.zeros((0, 3 * images.shape[1] + 1))
        if about["reason"] is None:
            planes, found = self._separated(images, texts, p_noise, sample.uids)
            about |= found
        self.save_artefact("planes", planes)
        self.scope.folder.write_json(self.artefact("separation.json"), about)

    def _separated(
        self, images: Floats, texts: Floats, seeds: NDArray[np.float64], uids: NDArray[np.uint64]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """The planes, and what they find in the sample; no plane where there is a reason for it."""
        how = Alternation(
            rounds=self.rule.rounds, penalty=self.rule.penalty, least_seeds=self.rule.least_seeds
        )
        losses = 1 - _cosines(images, texts)
        # A sum's last bit can depend on how many threads share it, and their number on the workers.
        with threadpool_limits(1, user_api="blas"):
            found = separate(pair_features(images, texts), seeds, losses, uids, how)
        if found.reason is not None:
            return np.zeros((0, 3 * images.shape[1] + 1)), {"reason": found.reason}
        planes = np.stack([_plane(model) for model in found.models])
        rate = float(_probability(_log_odds(images, texts, uid_folds(uids, len(planes)), planes)).mean())
        small = losses[small_loss(losses, 1 - rate, uids)]
        return planes, {"noise_rate": rate, "largest_small_loss": float(small.max(initial=-1.0))}

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the models were fitted to."""
        found: dict[str, Any] = self.scope.folder.read_json(self.artefact("separation.json"))
        return found

    @cached_property
    def planes(self) -> NDArray[np.float64]:
        """(folds, 3 d + 1): what features are multiplied with, and the intercept; no row where none is."""
        return np.asarray(self.load_artefact("planes"))

    def describe(self, part: DecidePart) -> tuple[Columns, dict[str, int]]:
        columns, alive = self.scope.alive(part, self.rule.reads())
        (image, text), rows = self.scope.pairs(part, self.rule.embeddings(), alive)
        p_noise, odds = (np.full(part.rows, np.nan, np.float32) for _ in range(2))
        rescued = np.zeros(part.rows, np.bool_)
        if len(self.planes) and len(rows):
            if 3 * image.shape[1] + 1 != self.planes.shape[1]:
                msg = (
                    f"{part.part}: embeddings of {self.rule.encoder_name} are {image.shape[1]} wide, "
                    f"elsewhere {self.planes.shape[1] // 3}: measure the pool with one encoder"
                )
                raise StoreError(msg)
            here = parse_uids(columns["uid"].take(pa.array(rows)))
            signal = numbers(columns[self.rule.signal].take(pa.array(rows)))
            odds[rows], rescued[rows] = self._judged(image, text, here, signal)
            p_noise[rows] = _probability(odds[rows])
        unknown = np.isnan(p_noise)
        written = {
            self.scope.name: pa.array(p_noise, from_pandas=True),
            f"{self.scope.name}_log_odds": pa.array(odds, from_pandas=True),
            f"{self.scope.name}_rescued": pa.array(rescued, mask=unknown),
        }
        counted = {"scored": int((~unknown).sum()), "rescued": int(rescued.sum())}
        return written, counted

    def _judged(
        self,
        image: NDArray[np.float16],
        text: NDArray[np.float16],
        uids: NDArray[np.uint64],
        signal: NDArray[Any],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The log odds of noise, and who was rescued; (n,) each."""
        images, texts = unit_rows(image)[0], unit_rows(text)[0]
        odds = _log_odds(images, texts, uid_folds(uids, len(self.planes)), self.planes)
        known = {key: value for key, value in self.about["seeds"].items() if key in Seeding.__annotations__}
        seeds = Seeding(**known).p_noise(signal)
        small = 1 - _cosines(images, texts) <= self.about["largest_small_loss"]
        rescued = (odds >= 0) & (seeds < CERTAIN_CLEAN) & small
        with np.errstate(divide="ignore"):
            clean = np.clip(np.log(seeds[rescued]) - np.log1p(-seeds[rescued]), -MOST_ODDS, MOST_ODDS)
        odds[rescued] = clean
        return odds, rescued

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        return {**self.about, **self.counts(parts)}


def _require_number(measure: str, name: str, kind: pa.DataType) -> None:
    try:
        require_number(name, kind)
    except ValueError as cause:
        msg = f"measure {measure}: {cause}"
        raise RecipeError(msg) from cause


def _plane(model: Linear) -> NDArray[np.float64]:
    """The model of two classes as one line for features as they are: (3 d + 1,), the intercept last."""
    weights = model.weights[:, 1] - model.weights[:, 0]
    slopes = weights[:-1] / model.spread
    return np.append(slopes, weights[-1] - float(slopes @ model.center))


def _log_odds(
    images: Floats,
    texts: Floats,
    folds: NDArray[np.int64],
    planes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What each row's own fold's plane says of it: (n,) log odds, row by row the same bits."""
    width = images.shape[1]
    odds = np.zeros(len(images))
    for start in range(0, len(images), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        features = pair_features(images[rows], texts[rows])
        odds[rows] = np.einsum("nd,nd->n", features, planes[folds[rows], : 3 * width])
        odds[rows] += planes[folds[rows], -1]
    return np.clip(odds, -MOST_ODDS, MOST_ODDS)


def _probability(odds: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-odds.astype(np.float64)))
    return found


def _cosines(images: Floats, texts: Floats) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", images, texts, dtype=np.float64)
    return cosines
