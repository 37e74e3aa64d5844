from __future__ import annotations

import pyarrow as pa

from transforms.noise.caption_labels import leaf_labels, text_labels
from transforms.vocabulary import parse_vocabulary

VOCABULARY = parse_vocabulary(
    b"concepts: {dog: {children: [beagle, poodle]}, cat: {}, hot dog: {}}", "v.yaml"
)


def test_a_caption_has_the_one_concept_without_children_that_it_names() -> None:
    said = {
        "a beagle": "beagle",
        "Two POODLES run": "poodle",
        "my dog, a beagle": "beagle",
        "a dog": None,
        "a beagle and a cat": None,
        "a hot dog": "hot dog",
        "a tree": None,
        "": None,
    }
    captions = pa.array([*said, None, "a beagle"])
    names = [VOCABULARY.names[leaf] for leaf in VOCABULARY.leaves]
    found = [None if leaf < 0 else names[leaf] for leaf in leaf_labels(captions, VOCABULARY).tolist()]
    assert found == [*said.values(), None, "beagle"]


def test_equal_captions_have_one_label() -> None:
    found = text_labels(pa.array(["a cat", "a dog", " a cat\n", "A cat", "", "  ", None])).tolist()
    assert found[0] == found[2]
    assert len(set(found[:2] + found[3:4])) == 3
    assert min(found[:4]) >= 0
    assert found[4:] == [-1, -1, -1]


def test_no_caption_at_all() -> None:
    assert text_labels(pa.array([], pa.string())).tolist() == []
    assert leaf_labels(pa.array([None, None], pa.string()), VOCABULARY).tolist() == [-1, -1]
