"""Prototypes with text matching: anchors of a sample, then a map that compares pictures with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.prototypes import (
    Counts,
    Mask,
    PrototypeVerdict,
    choose_anchors,
    image_sums,
    judge,
    similarities,
    smoothed_texts,
    text_prototypes,
    visual_prototypes,
)
from filters.core.uids import parse_uids, uid_places
from transforms.clustering import Floats, padded, unit_rows
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.fitted import DrawnSample, FittedRelation
from transforms.noise.agreement import neighbours_among
from transforms.noise.caption_labels import NO_LABEL, Labels, leaf_labels
from transforms.noise.class_density import ClassDensity, class_references
from transforms.noise.concept_examples import ConceptExamples, read_examples
from transforms.noise.zero_shot import leaf_directions, leaf_logits, softmax
from transforms.relating import Task
from transforms.vocabulary import (
    Vocabulary,
    class_embeddings,
    definition_embeddings,
    load_vocabulary,
    model_temperature,
)

_ROWS_AT_ONCE = 1024


class Prototypes(FittedRelation):
    """The artefacts are what each class looks like and is called, and references of each class."""

    note_fields: ClassVar[tuple[tuple[str, str], ...]] = (("label", "<i8"),)

    @classmethod
    def prompted(cls, rule: Any) -> tuple[str, ...]:
        return (rule.embedding,)

    @property
    def sample_rows(self) -> int:
        return int(self.rule.reference)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Its leaves are the classes."""
        return load_vocabulary(self.rule.labels)

    @cached_property
    def examples(self) -> ConceptExamples:
        """What the user says that some samples show."""
        if self.rule.examples is None:
            return ConceptExamples(np.empty((0, 2), np.uint64), np.empty(0, np.int64))
        return read_examples(self.rule.examples, self.vocabulary)

    def notes(self, columns: Columns) -> Records:
        labels = leaf_labels(columns["caption"], self.vocabulary)
        found = np.zeros(len(labels), list(self.note_fields))
        found["label"] = labels
        return found

    def run_sampling(self, stage: str, task: Task) -> None:
        super().run_sampling(stage, task)
        if stage == "sample" and len(self.examples.uids):
            found = [self._shown(part) for part in task.parts]
            # A part without embeddings has no example, and another width.
            self.save(
                f"examples/{task.number}", np.concatenate([one for one in found if len(one)] or found[:1])
            )

    def _shown(self, part: DecidePart) -> Records:
        """The part's examples: uid and picture."""
        columns, alive = self.scope.alive(part, ())
        uids = parse_uids(columns["uid"])
        rows, stored, _ = self.scope.usable(
            part, self.rule.embedding, alive & (uid_places(uids, self.examples.uids) >= 0)
        )
        found = np.zeros(len(rows), [("uid", "<u8", (2,)), ("image", "<f2", (stored.shape[1],))])
        found["uid"], found["image"] = uids[rows], stored
        return found

    # --- fitting

    def fit(self, sample: DrawnSample) -> None:
        label, leaves = sample.notes["label"], self.vocabulary.leaves
        images = unit_rows(sample.vectors[0])[0]
        options = self.scope.encoder(self.rule.embedding)
        directions = leaf_directions(class_embeddings(self.vocabulary, options), self.vocabulary)
        sums, found = self._example_sums(directions.shape[1])
        anchored = np.zeros_like(sums)
        if len(label):
            definitions = text_prototypes(definition_embeddings(self.vocabulary, options)[leaves])
            anchors = self._anchors(sample, images, definitions)
            anchored = image_sums(images, label, anchors, len(leaves))
        visual = visual_prototypes(sums + anchored)
        medians = self._save_references(sample, images)
        width = directions.shape[1]
        classes = np.zeros(
            len(leaves), [("visual", "<f8", (width,)), ("direction", "<f4", (width,)), ("median", "<f8")]
        )
        classes["visual"], classes["direction"], classes["median"] = visual, directions, medians
        self.save_artefact("classes", classes)
        without = np.isnan(visual).any(axis=1)
        about = {
            "drawn": len(label),
            "labelled": int(np.count_nonzero(label != NO_LABEL)),
            "concepts": len(leaves),
            "concepts_without_prototype": [self._names[at] for at in np.flatnonzero(without).tolist()],
            "anchors": int(anchored[:, -1].sum()),
            "examples": len(self.examples.uids),
            "examples_found": found,
            "temperature": model_temperature(options),
            "reason": _too_few(int(np.count_nonzero(~without))),
        }
        self.scope.folder.write_json(self.artefact("prototypes.json"), about)

    @property
    def _names(self) -> list[str]:
        """What the classes are called."""
        return [self.vocabulary.names[leaf] for leaf in self.vocabulary.leaves.tolist()]

    def _save_references(self, sample: DrawnSample, images: Floats) -> NDArray[np.float64]:
        """Saves what density compares with; the median of each class."""
        label = sample.notes["label"]
        chosen = class_references(label, sample.uids, self.rule.seed)
        reference = np.zeros(len(chosen), [("uid", "<u8", (2,)), ("label", "<i8")])
        reference["uid"], reference["label"] = sample.uids[chosen], label[chosen]
        self.save_artefact("reference", reference)
        self.save_artefact("reference-images", sample.vectors[0][chosen])
        density = ClassDensity(images[chosen], reference["label"], reference["uid"], self.rule.neighbours)
        return density.medians(len(self.vocabulary.leaves))

    def _example_sums(self, width: int) -> tuple[Counts, int]:
        """The sums of the examples' pictures for each class, and how many were found in the pool."""
        leaves = len(self.vocabulary.leaves)
        folder = self.scope.work("examples")
        found = [
            self.load(f"examples/{name.removesuffix('.npy')}")
            for name in self.scope.folder.names(folder)
            if name.endswith(".npy")
        ]
        found = [one for one in found if len(one)]
        if not found:
            return np.zeros((leaves, width + 1), np.int64), 0
        records = np.concatenate(found)
        # Rows with one uid have, as far as anyone can tell, one content.
        records = records[np.unique(records["uid"], axis=0, return_index=True)[1]]
        leaf = self.examples.leaf[uid_places(records["uid"], self.examples.uids)]
        shown = np.ones(len(records), np.bool_)
        return image_sums(unit_rows(records["image"])[0], leaf, shown, leaves), len(records)

    def _anchors(self, sample: DrawnSample, images: Floats, definitions: NDArray[np.float64]) -> Mask:
        """The rows of the sample whose captions are nearest to their class's definition."""
        near, _ = neighbours_among(sample.vectors[0], self.rule.neighbours, exact=False)
        texts = smoothed_texts(unit_rows(sample.vectors[1])[0], near.place, images)
        likeness = similarities(texts, sample.notes["label"], definitions)
        likeness[uid_places(sample.uids, self.examples.uids) >= 0] = np.nan  # they count already
        return choose_anchors(likeness, sample.notes["label"], sample.uids, self.rule.anchors)

    # --- judging

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the prototypes were made of."""
        found: dict[str, Any] = self.scope.folder.read_json(self.artefact("prototypes.json"))
        return found

    @cached_property
    def classes(self) -> Records:
        """visual, direction and median of each class."""
        return np.asarray(self.load_artefact("classes"))

    @cached_property
    def density(self) -> ClassDensity:
        """The references of each class."""
        reference = np.asarray(self.load_artefact("reference"))
        images = unit_rows(self.load_artefact("reference-images"))[0]
        return ClassDensity(images, reference["label"], reference["uid"], self.rule.neighbours)

    def describe(self, part: DecidePart) -> tuple[Columns, dict[str, int]]:
        columns, alive = self.scope.alive(part, self.rule.reads())
        score, density = (np.full(part.rows, np.nan, np.float32) for _ in range(2))
        clean, relabel = np.zeros(part.rows, np.bool_), np.full(part.rows, NO_LABEL, np.int64)
        rows, _, vectors = self.scope.usable(part, self.rule.embedding, alive)
        unlabelled = 0
        if len(rows) and self.about["reason"] is None:
            here = {name: column.take(pa.array(rows)) for name, column in columns.items()}
            label = leaf_labels(here["caption"], self.vocabulary)
            known = label != NO_LABEL
            unlabelled = int(np.count_nonzero(~known))
            rows, vectors, label = rows[known], vectors[known], label[known]
            uids = parse_uids(here["uid"])[known]
            density[rows] = self.density.scores(vectors, label, uids, self.classes["median"])
            for some, verdict in self._verdicts(vectors, label):
                score[rows[some]], clean[rows[some]] = verdict.score, verdict.clean
                relabel[rows[some]] = verdict.relabel
        name, unknown = self.scope.name, np.isnan(score)
        written = {
            name: pa.array(score, from_pandas=True),
            f"{name}_clean": pa.array(clean, mask=unknown),
            f"{name}_relabel": pa.array(self._names).take(pa.array(relabel, mask=relabel == NO_LABEL)),
            f"{name}_density": pa.array(density, from_pandas=True),
        }
        judged = int(np.count_nonzero(~unknown))
        counted = {
            "judged": judged,
            "without_label": unlabelled,
            "without_prototype": len(rows) - judged,
            "not_clean": judged - int(clean.sum()),
            "relabelled": int(np.count_nonzero(relabel != NO_LABEL)),
        }
        return written, counted

    def _verdicts(self, images: Floats, labels: Labels) -> Iterator[tuple[slice, PrototypeVerdict]]:
        """Some rows at a time; products have one shape, so that no row's bits depend on the others."""
        for start in range(0, len(images), _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, len(images)))
            count = rows.stop - rows.start
            block, label = padded(images[rows], _ROWS_AT_ONCE), np.full(_ROWS_AT_ONCE, NO_LABEL, np.int64)
            label[:count] = labels[rows]
            logits = [found for _, found in leaf_logits(block, self.classes["direction"])]
            predicted = softmax(np.concatenate(logits), self.about["temperature"])
            found = judge(block, label, self.classes["visual"], predicted, self.rule.mixing)
            yield (
                rows,
                PrototypeVerdict(
                    found.score[:count], found.clean[:count], found.relabel[:count], found.reason[:count]
                ),
            )

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        return {**self.about, **self.counts(parts)}


def _too_few(prototypes: int) -> str | None:
    if prototypes >= 2:
        return None
    said = "one concept has" if prototypes else "no concept has"
    return f"{said} a prototype, and there is nothing to tell apart: give examples, or more captions"
