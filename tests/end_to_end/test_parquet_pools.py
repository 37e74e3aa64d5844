"""A Parquet pool as Hugging Face writes it goes the same way as a pool of tars."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pools import photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate


def test_a_hugging_face_pool_keeps_what_the_same_tars_would_keep(tmp_path: Path) -> None:
    rows = [(f"k{at}", photo(at, side=40 + at), f"a small picture number {at}") for at in range(12)]
    write_tar(tmp_path / "tars" / "0.tar", [m for key, image, text in rows for m in sample(key, image, text)])
    columns = {
        "__key__": [key for key, _, _ in rows],
        "image": [{"bytes": image, "path": f"{key}.jpg"} for key, image, _ in rows],
        "text": [text for _, _, text in rows],
    }
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "rows" / "0.parquet")
    runs = {name: curate(EVERYDAY, tmp_path / name, tmp_path / f"store-{name}") for name in ("tars", "rows")}
    assert runs["tars"].counts == runs["rows"].counts
    question = "SELECT key, uid, verdict, dropped_by, width, pixels_hash FROM samples ORDER BY key"
    assert ask(tmp_path / "store-tars", question) == ask(tmp_path / "store-rows", question)
    contents = []
    for name, run in runs.items():
        found = {}
        for path in sorted((tmp_path / f"store-{name}" / "curated" / run.ledger).glob("*.tar")):
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name.endswith((".jpg", ".txt")):
                        found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
        contents.append(found)
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2 * runs["tars"].counts["keep"]


def test_columns_of_other_names_are_configured(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    table = pa.table({"picture": [photo(1), None], "words": ["a small picture here", "no picture with this"]})
    pq.write_table(table, tmp_path / "rows" / "0.parquet")
    names = "{retry_seconds: [], columns: {image: [picture], caption: [words]}}"
    run = curate(EVERYDAY.replace("{retry_seconds: []}", names), tmp_path / "rows", tmp_path / "store")
    assert run.counts["failed"] == 1
    assert ask(tmp_path / "store", "SELECT code FROM failures") == [{"code": "missing_image"}]
