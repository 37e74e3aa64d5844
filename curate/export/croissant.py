"""Croissant 1.0: the data set described for machines, with the curation record in its RAI terms.

Croissant Format Specification 1.0 (docs.mlcommons.org/croissant, March 2024) and Croissant RAI 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curate.exporting import (
    METADATA,
    Export,
    Publication,
    Selection,
    WrittenFile,
    place_shards,
    plain_types,
    write_metadata,
)
from curate.nutrition import NutritionLabel, nutrition_label
from curate.query import describe_samples
from transforms.storage import Folder, redact

DESCRIPTION = "croissant.json"
CONFORMS_TO = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")
# SPDX's own word where nobody states a licence; Croissant wants one.
NO_LICENCE = "NOASSERTION"
_TYPES = {"integer": "sc:Integer", "float": "sc:Float", "bool": "sc:Boolean", "text": "sc:Text"}
_IMAGES = ("*.jpg", "*.jpeg", "*.png", "*.webp", "*.gif", "*.bmp", "*.tif", "*.tiff")


class CroissantExport(Export):
    """`croissant.json`, with `metadata.parquet` and the curated shards that it describes.

    Under a condition there are no shards: those of the store hold the kept samples.
    """

    def write(self, selection: Selection, target: Folder, publication: Publication) -> list[str]:
        label = nutrition_label(selection)
        metadata = write_metadata(selection, target)
        shards = place_shards(selection, target)
        target.write_json(DESCRIPTION, describe(selection, label, metadata, shards, publication))
        return [DESCRIPTION, metadata.name, *(shard.name for shard in shards)]


def describe(
    selection: Selection,
    label: NutritionLabel,
    metadata: WrittenFile,
    shards: Sequence[WrittenFile],
    publication: Publication,
) -> dict[str, Any]:
    """The description as JSON-LD."""
    recipe = label.decision.manifest["recipe"]
    chosen = "kept by the recipe" if label.where is None else f"that meet {label.where}"
    about = f"{label.samples:,} image-text samples out of {label.rows:,}, {chosen}."
    records = [_metadata_records(selection)] + ([_image_records()] if shards else [])
    files = [_file(metadata, "application/x-parquet")]
    files += [_file(shard, "application/x-tar") for shard in shards]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": label.decision.ledger,
        "description": " ".join(filter(None, (recipe["description"], about))),
        "version": "1.0.0",
        "license": publication.licence or NO_LICENCE,
        "url": publication.url or "./",
        "citeAs": f"{label.decision.ledger}: {label.samples:,} image-text samples, curated with Curate.",
        **({"datePublished": label.taken} if label.taken else {}),
        "keywords": ["image-text", "vision-language", "curated"],
        **_responsible(label),
        "distribution": files + ([_image_files(shards)] if shards else []),
        "recordSet": records,
    }


def _responsible(label: NutritionLabel) -> dict[str, Any]:
    """The curation record in the terms of Croissant's extension for responsible AI."""
    origin = ", ".join(redact(uri) for uri in label.origin)
    steps = [
        f"{fall.filter}: {fall.bound}; removed {fall.stopped:,} of {fall.entering:,} samples"
        for fall in label.falls
    ]
    return {
        "rai:dataCollection": f"{label.shards:,} shards of image-text pairs: {origin}",
        "rai:dataCollectionMissingData": "; ".join(
            f"{failure.code}: {failure.rows:,}, {failure.meaning}" for failure in label.failures
        )
        or "none",
        "rai:dataPreprocessingProtocol": [*steps, f"The recipe as it ran:\n{label.recipe}"],
        "rai:machineAnnotationTools": [f"{name}: {what}" for name, what in label.measures],
        "rai:dataLimitations": list(label.gaps) or ["none that the record shows"],
        "rai:dataBiases": [f"{use}: {beware}" for use, beware in label.alerts],
        "rai:personalSensitiveInformation": [
            "Not looked for and not removed: faces, names and other personal data of the web may be in it."
        ],
    }


def _file(file: WrittenFile, form: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name.rpartition("/")[2],
        "contentUrl": file.name,
        "contentSize": f"{file.size} B",
        "encodingFormat": form,
        "sha256": file.sha256,
    }


def _image_files(shards: Sequence[WrittenFile]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "image-files",
        "name": "image-files",
        "description": "The images in the shards.",
        "containedIn": [{"@id": shard.name} for shard in shards],
        "encodingFormat": "image/*",
        "includes": list(_IMAGES),
    }


def _metadata_records(selection: Selection) -> dict[str, Any]:
    described = {name: (meaning, unit) for name, meaning, unit in describe_samples(selection.decision)}
    types = plain_types(selection.schema)
    fields = []
    for item in selection.schema:
        if item.name in types:
            meaning, unit = described[item.name]
            field = _field(
                "samples", item.name, f"{meaning} ({unit})" if unit else meaning, _data_type(item.type)
            )
            source = {"fileObject": {"@id": METADATA}, "extract": {"column": item.name}}
            fields.append(
                {**field, **({"repeated": True} if types[item.name] == "list" else {}), "source": source}
            )
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record for each sample: identity, caption, signals and verdict.",
        "field": fields,
    }


def _image_records() -> dict[str, Any]:
    source = {"@id": "image-files"}
    key = {"fileProperty": "filename"}
    stem = {"regex": r"^([^.]*)\."}
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "The pictures; a key is unique in its shard, the uid stands in <key>.curate.json.",
        "field": [
            {
                **_field("images", "key", "key of the sample in its shard", "sc:Text"),
                "source": {"fileSet": source, "extract": key, "transform": stem},
            },
            {
                **_field("images", "image", "the picture", "sc:ImageObject"),
                "source": {"fileSet": source, "extract": {"fileProperty": "content"}},
            },
        ],
    }


def _field(records: str, name: str, description: str, data_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
    }


def _data_type(kind: pa.DataType) -> str:
    """Croissant's word for a column's type; of a list, for what it holds."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    (found,) = plain_types(pa.schema([("value", inner)])).values()
    return _TYPES[found]


# The names that the specification gives its terms (its appendix 1).
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject"),
            *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField"),
            *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
            *("separator", "source", "subField", "transform"),
        )
    },
}
