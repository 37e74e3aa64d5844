"""Run by an environment with clip-retrieval: its own index and back read a folder; prints what they found.

`python clip_retrieval_reader.py FOLDER INDEX_FOLDER`. The package is entered beside its `__init__`, which
imports the models.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import types
from pathlib import Path

COLUMNS = ["uid", "url", "caption", "image_path"]


def main(folder: str, index_folder: str) -> None:
    """Indexes the embeddings, opens the metadata in both ways that it has, and asks for every row."""
    found = importlib.util.find_spec("autofaiss")
    if found is None or found.origin is None:
        raise SystemExit("no autofaiss here")  # noqa: TRY003
    package = types.ModuleType("clip_retrieval")
    package.__path__ = [str(Path(found.origin).parents[1] / "clip_retrieval")]
    sys.modules["clip_retrieval"] = package
    back = importlib.import_module("clip_retrieval.clip_back")
    logging.disable(logging.INFO)
    importlib.import_module("clip_retrieval.clip_index").clip_index(folder, index_folder, nb_cores=1)
    said = {}
    for kind in ("image", "text"):
        index = back.load_index(f"{index_folder}/{kind}.index", False)  # noqa: FBT003
        vectors = index.reconstruct_n(0, index.ntotal)
        said[kind] = index.search(vectors, 1)[1][:, 0].tolist()
    rows = range(len(said["image"]))
    for kind, hdf5 in (("parquet", False), ("hdf5", True)):
        provider, _ = back.load_metadata_provider(index_folder, hdf5, False, None, COLUMNS, False)  # noqa: FBT003
        said[kind] = [
            {name: one.decode() if isinstance(one, bytes) else one for name, one in row.items()}
            for row in provider.get(rows, COLUMNS)
        ]
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
