"""The folder that clip-retrieval's `index` and `back` read: embeddings, and metadata beside them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.encoder_of import StoredEmbedding, stored_embeddings
from curate.exporting import Export, Publication, Selection, plain_types
from curate.search.vectors import Vectors
from filters.core.errors import QueryError
from transforms.storage import Folder

ROWS_PER_FILE = 100_000
FOLDERS = {"img": "img_emb", "txt": "text_emb"}


class ClipRetrievalExport(Export):
    """`img_emb/`, `text_emb/` and `metadata/`, row by row the same samples.

    Files have numbers of equal length, since its readers put them in the order of their names.
    Samples without an embedding are left out. `image_path` holds the sample's key.
    """

    def write(self, selection: Selection, target: Folder, publication: Publication) -> list[str]:  # noqa: ARG002
        stored = _embeddings(selection)
        vectors = {one.kind: Vectors(selection.decision, one) for one in stored}
        types = plain_types(selection.schema)
        names = [name for name in selection.columns if types.get(name, "list") != "list"]
        digits = len(str(max(1, -(-selection.count // ROWS_PER_FILE)) - 1))
        written: list[str] = []
        for numbers, table in selection.numbered(names, ROWS_PER_FILE):
            found = {kind: one.take(numbers) for kind, one in vectors.items()}
            usable = np.logical_and.reduce(
                [np.isfinite(rows).all(axis=1) & (rows.shape[1] > 0) for rows in found.values()]
            )
            if not usable.any():
                continue
            end = f"{len(written) // (len(found) + 1):0{digits}d}"
            for kind, rows in found.items():
                name = f"{FOLDERS[kind]}/{FOLDERS[kind]}_{end}.npy"
                with target.commit(name) as path, path.open("wb") as stream:
                    np.save(stream, rows[usable])
                written.append(name)
            written.append(f"metadata/metadata_{end}.parquet")
            with target.commit(written[-1]) as path:
                pq.write_table(_metadata(table.filter(pa.array(usable))), path)
        if not written:
            msg = f"no sample of this selection has an embedding in {selection.decision.ledger}"
            raise QueryError(msg)
        return written


def _embeddings(selection: Selection) -> list[StoredEmbedding]:
    """The embeddings of the first measure that has some."""
    found = list(stored_embeddings(selection.decision).values())
    if not found:
        msg = f"the decision {selection.decision.ledger} has no embeddings, which clip-retrieval searches in"
        raise QueryError(msg)
    return [one for one in found if one.measure == found[0].measure]


def _metadata(table: pa.Table) -> pa.Table:
    """The table as its metadata reader takes it: `image_path` first, which must be text; no null caption."""
    caption = pc.fill_null(table["caption"], "")
    table = table.set_column(table.column_names.index("caption"), "caption", caption)
    return table.add_column(0, "image_path", pc.fill_null(table["key"], ""))
