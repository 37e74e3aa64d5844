"""The embeddings of a decision by name, and the model that made them, to embed questions with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.plan import EMBEDDINGS
from curate.query import Decision
from filters.core.catalogue import nearest
from filters.core.errors import ModelError, QueryError
from transforms.encoders import ClipEncoder, load_encoder
from transforms.measure import NamedMeasure, find_measure
from transforms.measures.clip import Clip
from transforms.measures.datacomp_embeddings import DatacompEmbeddings

# Gadre et al. 2023 (DataComp, arXiv 2304.14108), section 3.1: the embeddings that its metadata
# holds are of OpenAI's models, which open_clip calls by these names.
DATACOMP_MODELS = {"b32": ("ViT-B-32-quickgelu", "openai"), "l14": ("ViT-L-14-quickgelu", "openai")}


@dataclass(frozen=True)
class StoredEmbedding:
    """Embeddings that a measure of the decision stored.

    Attributes:
        name: such as clip_image; measure: such as clip; kind: img or txt.
        folder: where their parts lie in the store.
    """

    name: str
    measure: str
    kind: str
    folder: str


def stored_embeddings(decision: Decision) -> dict[str, StoredEmbedding]:
    """Name -> the embeddings, those of images before those of texts, in the order of the measures."""
    found = {}
    for kind, word in EMBEDDINGS:
        for item in decision.manifest["measures"]:
            if item["embeddings"] and kind in getattr(find_measure(item["kind"]), "encodes", ()):
                name = f"{item['name']}_{word}"
                found[name] = StoredEmbedding(name, item["name"], kind, f"{item['embeddings']}/{kind}")
    return found


def find_embedding(decision: Decision, name: str | None = None) -> StoredEmbedding:
    """The embeddings of this name, or the first of the decision: of images, where it has some.

    Raises: QueryError where it has none, or none of this name.
    """
    found = stored_embeddings(decision)
    if not found:
        msg = (
            f"the decision {decision.ledger} has no embeddings to search in: add a measure such as "
            "`clip: {model: …, pretrained: …}` to its recipe and run it again"
        )
        raise QueryError(msg)
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        msg = f"the decision {decision.ledger} has no embeddings {name!r}; {nearest(name, found)}"
        raise QueryError(msg)
    return found[name]


def query_encoder(decision: Decision, measure: str = "clip") -> ClipEncoder:
    """The model behind a measure's embeddings, on whatever device is here.

    Raises: QueryError where the decision has no such measure; ModelError where the model can't be
    loaded, or its weights are not those that measured.
    """
    item = next((one for one in decision.manifest["measures"] if one["name"] == measure), None)
    if item is None or not item["embeddings"]:
        known = sorted({one.measure for one in stored_embeddings(decision).values()})
        said = nearest(measure, known) if known else "its recipe has no measure that stores embeddings"
        msg = f"no measure {measure!r} of {decision.ledger} stores embeddings; {said}"
        raise QueryError(msg)
    given = decision.manifest["recipe"]["measures"].get(measure, {})
    options = find_measure(item["kind"]).model_validate(
        {name: value for name, value in given.items() if name != "measure"}
    )
    if isinstance(options, DatacompEmbeddings):
        model, pretrained = DATACOMP_MODELS[options.model]
        return load_encoder(model, pretrained, "auto", "auto")
    if not isinstance(options, Clip):
        msg = f"measure {measure!r} is of the kind {item['kind']}, whose model can't embed a question"
        raise QueryError(msg)
    _check_weights(decision, item, options)
    return load_encoder(options.model, options.pretrained, "auto", options.precision)


def _check_weights(decision: Decision, item: Mapping[str, Any], options: Clip) -> None:
    """Raises ModelError unless the measure, with the weights that are here, has the name it had then."""
    samples = decision.manifest["samples"].removeprefix("signals/")
    here = NamedMeasure(item["name"], item["kind"], options, (samples,)).folder
    if item["embeddings"] != f"embeddings/{here}":
        what = f"{options.model!r} with pretrained={options.pretrained!r}"
        if item["version"] != options.version:
            msg = f"{what} was measured by another version of Curate: run the recipe again"
        else:
            msg = (
                f"the weights of {what} are not those that measured {decision.ledger}: put those back, "
                "or run the recipe again with the new ones"
            )
        raise ModelError(msg)
