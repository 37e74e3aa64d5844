"""Labels and probabilities of a pool's rows: zero-shot by a vocabulary, or from a user's files.

A source prepares what its workers share, says each row's label or why it has none, and gives the
probabilities that confident learning weighs the labels with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.errors import RecipeError
from filters.core.paths import listed
from filters.core.uids import parse_uids
from transforms.clustering import Floats
from transforms.deciding import DecidePart, read_columns
from transforms.noise.zero_shot import leaf_directions, leaf_logits
from transforms.probability_files import (
    ProbabilityFile,
    build_index,
    find_probabilities,
    places_of,
    read_blocks,
    uid_keys,
)
from transforms.references import content_fingerprint, find_files
from transforms.relating import Relation, Task
from transforms.vocabulary import Vocabulary, class_embeddings, load_vocabulary, model_temperature

MOST_CLASSES = 2000  # a matrix of classes x classes for each worker, and for each lot on disk

# Why a row has no label, by number; NOT_COMPARED for rows that earlier filters took.
NOT_COMPARED, LABELLED = -1, 0
REASONS = (
    "",
    "the caption names no class",
    "the caption names several classes",
    "there is no embedding",
    "its uid is not in the probabilities",
    "the probabilities have no label for it",
    "the probabilities have no number for it",
    "only one class has examples",
)
NO_CLASS, SEVERAL, NO_EMBEDDING, UNKNOWN, NO_LABEL, NO_NUMBER, ONE_CLASS = range(1, len(REASONS))
ROW = np.dtype([("label", "<i4"), ("reason", "i1")])

Labelled: TypeAlias = NDArray[np.void]


class Source(ABC):
    """Where labels and probabilities come from; `relation` keeps the working files."""

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.scope, self.rule = relation.scope, relation.rule

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The concepts, where the rule names a vocabulary."""
        return None if self.rule.labels is None else load_vocabulary(self.rule.labels)

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What the classes are called."""

    @abstractmethod
    def tasks(self, stage: str) -> list[Task]:
        """The tasks of `prepare` and `index`."""

    @abstractmethod
    def run(self, stage: str, task: Task) -> None:
        """Does one of them."""

    @abstractmethod
    def label(self, part: DecidePart) -> Labelled:
        """Every row's label, or why there is none."""

    @abstractmethod
    def logits(self, part: DecidePart, mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """Of the masked rows that have any, some at a time: row numbers, and (m, K) float32.

        What a softmax makes probabilities of; of files the probabilities themselves.
        """

    def captioned(self, part: DecidePart) -> Labelled:
        """The one class that each caption names; for rows that were not compared nothing."""
        columns, alive = self.scope.alive(part, ("uid", "caption"))
        found = np.zeros(part.rows, ROW)
        if self.vocabulary is not None:
            named = self.vocabulary.named_in(columns["caption"].to_pylist())[:, self.vocabulary.leaves]
            many = named.sum(axis=1)
            found["label"] = np.argmax(named, axis=1)
            found["reason"] = np.where(many == 0, NO_CLASS, np.where(many > 1, SEVERAL, LABELLED))
        found["reason"][~alive] = NOT_COMPARED
        return found


class ZeroShot(Source):
    """Labels that captions name, probabilities from the pictures' embeddings and prompts."""

    @property
    def names(self) -> tuple[str, ...]:
        vocabulary = self._concepts
        return tuple(vocabulary.concepts[leaf].name for leaf in vocabulary.leaves)

    def tasks(self, stage: str) -> list[Task]:
        return [Task(0)] if stage == "prepare" else []

    def run(self, stage: str, task: Task) -> None:  # noqa: ARG002  (the only stage, the only task)
        clip = self.scope.encoder(self.embedding)
        classes = class_embeddings(self._concepts, clip)
        self.relation.save("directions", leaf_directions(classes, self._concepts))
        about = {"temperature": model_temperature(clip)}
        self.scope.folder.write_json(self.scope.work("model.json"), about)

    def label(self, part: DecidePart) -> Labelled:
        found = self.captioned(part)
        alive = found["reason"] != NOT_COMPARED
        usable = np.zeros(part.rows, np.bool_)
        usable[self.scope.usable(part, self.embedding, alive)[0]] = True
        found["reason"][alive & ~usable] = NO_EMBEDDING
        return found

    def logits(self, part: DecidePart, mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        rows, _, vectors = self.scope.usable(part, self.embedding, mask)
        if len(rows) == 0:
            return
        directions = self.relation.load("directions")
        for some, products in leaf_logits(vectors, np.asarray(directions)):
            yield rows[some], products

    @property
    def embedding(self) -> str:
        """The embeddings that are compared with prompts."""
        return str(self.rule.embeddings()[0])

    @property
    def temperature(self) -> float:
        """What cosines are divided by unless it is calibrated: what the rule says, or the model's own."""
        if not isinstance(self.rule.temperature, str):
            return float(self.rule.temperature)
        return float(self.scope.folder.read_json(self.scope.work("model.json"))["temperature"])

    def named(self, part: DecidePart) -> NDArray[np.bool_]:
        """(n, K): which of the classes each caption names."""
        captions = read_columns(self.scope.config, part, ("caption",))["caption"].to_pylist()
        return self._concepts.named_in(captions)[:, self._concepts.leaves]

    @property
    def _concepts(self) -> Vocabulary:
        if self.vocabulary is None:
            raise TypeError(self.rule)
        return self.vocabulary


class Files(Source):
    """Probabilities of a user's files, by uid; labels from there or from captions."""

    @property
    def names(self) -> tuple[str, ...]:
        return class_names(self.rule)

    @cached_property
    def files(self) -> list[ProbabilityFile]:
        """The files."""
        return find_probabilities(listed(self.rule.probabilities))

    @property
    def groups(self) -> list[tuple[int, int]]:
        """File and row group of each task."""
        return [(at, group) for at, file in enumerate(self.files) for group in range(len(file.groups))]

    def tasks(self, stage: str) -> list[Task]:
        if stage == "index":
            return [Task(0)]
        return [Task(number, (), keys) for number, keys in enumerate(self.groups)]

    def run(self, stage: str, task: Task) -> None:
        if stage == "index":
            self.relation.save("index", build_index([self._load(block)["uid"] for block in self._blocks]))
            return
        at, group = task.keys
        numbers = {name.casefold(): number for number, name in enumerate(self.names)}
        known = numbers if self.rule.labels is not None else {}
        count = 0
        for records in read_blocks(self.files[at], group, len(self.names), known):
            self.relation.save(f"blocks/{task.number}-{count}", records)
            count += 1
        self.scope.folder.write_json(self.scope.work(f"blocks/{task.number}.json"), count)

    def label(self, part: DecidePart) -> Labelled:
        found = self.captioned(part)
        compared = found["reason"] != NOT_COMPARED
        places = self._places(part)
        for rows, records in self._records(places, compared):
            if self.files[0].labelled:
                found["label"][rows] = records["label"]
                found["reason"][rows] = np.where(records["label"] < 0, NO_LABEL, LABELLED)
            empty = np.isnan(records["p"]).any(axis=1)
            found["reason"][rows[empty]] = NO_NUMBER
        found["reason"][compared & (places < 0)] = UNKNOWN
        return found

    def logits(self, part: DecidePart, mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        for rows, records in self._records(self._places(part), mask):
            known = ~np.isnan(records["p"]).any(axis=1)
            yield rows[known], records["p"][known]

    def found(self, parts: Sequence[DecidePart]) -> NDArray[np.bool_]:
        """Which rows of the index these parts hold."""
        marks = np.zeros(len(self._index), np.bool_)
        for part in parts:
            places = self._places(part)
            marks[places[places >= 0]] = True
        return marks

    @cached_property
    def _index(self) -> NDArray[np.void]:
        return self.relation.load("index")

    @cached_property
    def _blocks(self) -> list[str]:
        counts = [
            self.scope.folder.read_json(self.scope.work(f"blocks/{number}.json"))
            for number in range(len(self.groups))
        ]
        return [f"blocks/{number}-{block}" for number, count in enumerate(counts) for block in range(count)]

    def _load(self, block: str) -> NDArray[np.void]:
        return self.relation.load(block)

    def _places(self, part: DecidePart) -> NDArray[np.int64]:
        columns, _ = self.scope.alive(part, ("uid",))
        return places_of(uid_keys(parse_uids(columns["uid"])), self._index)

    def _records(
        self, places: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.void]]]:
        """Of the masked rows those that stand in the files: row numbers, and what stands there."""
        rows = np.flatnonzero(mask & (places >= 0))
        where = self._index[places[rows]]
        for block in np.unique(where["block"]):
            here = where["block"] == block
            yield rows[here], self._load(self._blocks[block])[where["row"][here]]


def source_of(relation: Relation) -> ZeroShot | Files:
    """Where the labels and probabilities of the relation's rule come from."""
    return ZeroShot(relation) if relation.rule.probabilities is None else Files(relation)


def check_labels(rule: Any) -> None:
    """Raises RecipeError where the rule's files can't serve."""
    count = len(class_names(rule))
    if count < 2:
        msg = "labels are compared with one another: name at least two concepts without children"
        raise RecipeError(msg)
    if count > MOST_CLASSES:
        msg = f"{count} classes, but at most {MOST_CLASSES} can be compared: take fewer concepts"
        raise RecipeError(msg)


def class_names(rule: Any) -> tuple[str, ...]:
    """What the classes are called: concepts without children, or numbers.

    Raises: RecipeError where the files can't be read or don't fit one another.
    """
    names: tuple[str, ...] = ()
    if rule.labels is not None:
        vocabulary = load_vocabulary(rule.labels)
        names = tuple(vocabulary.concepts[leaf].name for leaf in vocabulary.leaves)
    if rule.probabilities is None:
        return names
    files = find_probabilities(listed(rule.probabilities))
    count = max(file.classes for file in files)
    if rule.labels is None and not files[0].labelled:
        msg = "probabilities: no column `label`: write one, or give `labels`, to take the captions'"
        raise RecipeError(msg)
    if names and len(names) != count:
        msg = (
            f"probabilities: `p` has {count} numbers, but the vocabulary {len(names)} concepts without "
            "children: one number for each, in their order"
        )
        raise RecipeError(msg)
    return names or tuple(map(str, range(count)))


def labels_identity(rule: Any) -> dict[str, Any]:
    """What names the content of the rule's files. JSON values."""
    given = rule.probabilities
    files = None if given is None else find_files(listed(given), "probabilities")
    return {
        "labels": None if rule.labels is None else load_vocabulary(rule.labels).fingerprint,
        "probabilities": None if files is None else sorted(content_fingerprint(uri) for uri in files),
    }


def reasons_column(reasons: NDArray[np.int8]) -> pa.Array:
    """The reasons in words, null for rows that have a label or were not compared."""
    return pa.array(REASONS, pa.string()).take(pa.array(reasons, mask=reasons <= LABELLED))
