"""kNN agreement: labels beside those of the nearest reference pictures, a map once these are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import parse_uids, uid_places
from transforms.clustering import Floats, unit_rows
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.fitted import DrawnSample, FittedRelation
from transforms.noise.agreement import Agreement, agreement, credibility, votes
from transforms.noise.caption_labels import NO_LABEL, Labels, leaf_labels, text_labels
from transforms.noise.nearest import NearestRows, Neighbours
from transforms.noise.zero_shot import leaf_directions, leaf_logits
from transforms.vocabulary import Vocabulary, class_embeddings, load_vocabulary, model_temperature

_ROWS_AT_ONCE = 1024


class LabelAgreement(FittedRelation):
    """The artefact is the reference: labelled pictures, and with a vocabulary its concepts' prompts."""

    note_fields: ClassVar[tuple[tuple[str, str], ...]] = (("label", "<i8"),)

    @classmethod
    def prompted(cls, rule: Any) -> tuple[str, ...]:
        return () if rule.labels is None else (rule.embedding,)

    @property
    def sample_rows(self) -> int:
        return int(self.rule.reference)

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Whose concepts are labels; None: captions are."""
        return None if self.rule.labels is None else load_vocabulary(self.rule.labels)

    def labels(self, captions: pa.Array) -> Labels:
        """The label of each caption: (n,) int64, -1 for none."""
        return text_labels(captions) if self.vocabulary is None else leaf_labels(captions, self.vocabulary)

    def notes(self, columns: Columns) -> Records:
        labels = self.labels(columns["caption"])
        found = np.zeros(len(labels), list(self.note_fields))
        found["label"] = labels
        return found

    def fit(self, sample: DrawnSample) -> None:
        images, label = sample.vectors[0], sample.notes["label"]
        _, which, many = np.unique(label, return_inverse=True, return_counts=True)
        rows = np.flatnonzero((label != NO_LABEL) & (many[which] >= (2 if self.vocabulary is None else 1)))
        distinct = len(np.unique(label[rows]))
        about: dict[str, Any] = {
            "drawn": len(label),
            "reference": len(rows),
            "labels": distinct,
            "reason": None if distinct > 1 else self._too_few(distinct),
            "temperature": None,
        }
        reference = np.zeros(len(rows), [("uid", "<u8", (2,)), ("label", "<i8"), ("log_sum", "<f8")])
        reference["uid"], reference["label"] = sample.uids[rows], label[rows]
        if self.vocabulary is not None and distinct > 1:
            options = self.scope.encoder(self.rule.embedding)
            directions = leaf_directions(class_embeddings(self.vocabulary, options), self.vocabulary)
            about["temperature"] = model_temperature(options)
            for some, logits in leaf_logits(unit_rows(images[rows])[0], directions):
                reference["log_sum"][some] = _log_sums(logits / about["temperature"])
            self.save_artefact("directions", directions)
        self.save_artefact("reference", reference)
        self.save_artefact("reference-images", images[rows])
        self.scope.folder.write_json(self.artefact("reference.json"), about)

    def _too_few(self, distinct: int) -> str:
        if distinct:
            return "all pictures of the reference have one label"
        why = "no caption repeats" if self.vocabulary is None else "no caption names just one concept"
        return f"no picture of the reference has a label: {why}"

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the reference holds."""
        found: dict[str, Any] = self.scope.folder.read_json(self.artefact("reference.json"))
        return found

    @cached_property
    def reference(self) -> Records:
        """uid, label, and log_sum of each picture: of the exponentials of its logits."""
        return np.asarray(self.load_artefact("reference"))

    @cached_property
    def images(self) -> Floats:
        """(m, d) float32 unit rows of the reference."""
        return unit_rows(self.load_artefact("reference-images"))[0]

    @cached_property
    def nearest(self) -> NearestRows:
        """The reference, to search in."""
        return NearestRows(self.images, exact=self.rule.exact)

    @cached_property
    def directions(self) -> Floats:
        """(L, d) float32, of the concepts that are labels."""
        return np.asarray(self.load_artefact("directions"))

    def describe(self, part: DecidePart) -> tuple[Columns, dict[str, int]]:
        columns, alive = self.scope.alive(part, self.rule.reads())
        margin, rank, credible = (np.full(part.rows, np.nan, np.float32) for _ in range(3))
        outvoted = np.zeros(part.rows, np.bool_)
        rows, _, vectors = self.scope.usable(part, self.rule.embedding, alive)
        unlabelled = 0
        if len(rows) and self.about["reason"] is None:
            here = {name: column.take(pa.array(rows)) for name, column in columns.items()}
            label = self.labels(here["caption"])
            known = np.isin(label, self.reference["label"]) if self.vocabulary is None else label != NO_LABEL
            rows, uids = rows[known], parse_uids(here["uid"])[known]
            unlabelled = int(np.count_nonzero(~known))
            for some, found, believed in self._judged(vectors[known], uids, label[known]):
                margin[rows[some]], rank[rows[some]] = found.margin, found.rank
                outvoted[rows[some]], credible[rows[some]] = found.outvoted, believed
        name, unknown = self.scope.name, np.isnan(margin)
        written = {
            name: pa.array(margin, from_pandas=True),
            f"{name}_rank": pa.array(rank, from_pandas=True),
            f"{name}_outvoted": pa.array(outvoted, mask=unknown),
            f"{name}_credibility": pa.array(credible, from_pandas=True),
        }
        judged = int(np.count_nonzero(~unknown))
        return written, {"judged": judged, "without_label": unlabelled, "outvoted": int(outvoted.sum())}

    def _judged(
        self, vectors: Floats, uids: NDArray[np.uint64], labels: Labels
    ) -> Iterator[tuple[slice, Agreement, Floats]]:
        """Some rows at a time: what their neighbours say."""
        own = uid_places(uids, self.reference["uid"])
        for start in range(0, len(labels), _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, len(labels)))
            near = self.nearest.search(vectors[rows], self.rule.voters - 1, own[rows])
            theirs = np.where(near.place >= 0, self.reference["label"][near.place], NO_LABEL)
            alike = near_labels(near, theirs, labels[rows])
            shows = (theirs == labels[rows, None]).astype(np.float64)
            if self.vocabulary is not None:
                shows = self._shares(near, labels[rows])
            yield rows, alike, label_credibility(near, shows)

    def _shares(self, near: Neighbours, labels: Labels) -> NDArray[np.float64]:
        """The zero-shot probability of each row's label in its neighbours' pictures: (n, k) float64."""
        pictures = self.images[np.maximum(near.place, 0)]
        products = np.einsum("nkd,nd->nk", pictures, self.directions[labels], dtype=np.float64)
        log_sums = self.reference["log_sum"][np.maximum(near.place, 0)]
        shares: NDArray[np.float64] = np.exp(np.minimum(products / self.about["temperature"] - log_sums, 0))
        return shares

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        return {**self.about, **self.counts(parts)}


def near_labels(near: Neighbours, theirs: Labels, own: Labels) -> Agreement:
    """The agreement of rows with their neighbours, whatever the number of labels.

    A row's votes concern at most its own label and those of its k neighbours, so these are numbered
    anew for each row: memory and time depend on k, not on how many labels there are.

    near: of n rows; theirs: (n, k) int64 labels of the neighbours; own: (n,) int64, none missing.
    """
    both = np.hstack([own[:, None], theirs])
    # The own label is 0; others have the place where they come first.
    local = (both[:, :, None] == both[:, None, :]).argmax(axis=2)[:, 1:]
    local = np.where(theirs == NO_LABEL, NO_LABEL, local).astype(np.int64)
    mine = np.zeros(len(own), np.int64)
    cast = votes(_each_its_own(near), local.ravel(), mine, both.shape[1])
    return agreement(cast, mine)


def label_credibility(near: Neighbours, shares: NDArray[np.float64]) -> Floats:
    """`credibility` of a label, given its probability in each neighbour's distribution: (n,) float32.

    The divergence from a distribution that is 1 for one label depends on that label's probability
    alone, so all others are one.

    shares: (n, k) float64 in [0, 1].
    """
    theirs = np.stack([shares, 1 - shares], axis=2).reshape(-1, 2).astype(np.float32)
    own = np.tile(np.array([1, 0], np.float32), (len(shares), 1))
    return credibility(_each_its_own(near), theirs, own)


def _each_its_own(near: Neighbours) -> Neighbours:
    """The neighbours at places of their own, row after row: (n, k) of n x k."""
    places = np.arange(near.place.size, dtype=np.int64).reshape(near.place.shape)
    return Neighbours(near.cosine, np.where(near.place >= 0, places, -1))


def _log_sums(logits: Floats) -> NDArray[np.float64]:
    """The logarithm of each line's sum of exponentials: (n,) float64."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    sums: NDArray[np.float64] = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return sums
