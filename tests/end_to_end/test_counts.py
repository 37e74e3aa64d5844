"""Every row read has one verdict, and ledger, subset and curated shards say the same."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from filters.core.errors import InvariantBroken
from tests.pools import broken_pool, photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate, files_of, ledger_table
from transforms.storage import Folder

BOUNDS = "{retry_seconds: [], max_pixels: 20000, max_member_bytes: 25000}"
BROKEN = EVERYDAY.replace("{retry_seconds: []}", BOUNDS)


def verdict_counts(store: Path) -> Counter[str]:
    return Counter({row["verdict"]: row["n"] for row in ask(store, COUNT)})


COUNT = "SELECT verdict, count(*) AS n FROM samples GROUP BY 1"


def test_a_pool_with_every_failure_adds_up_by_shard_and_in_total(tmp_path: Path) -> None:
    failures = broken_pool(tmp_path / "pool")
    result = curate(BROKEN, f"{tmp_path}/pool/0000{{0..3}}.tar", tmp_path / "store")
    # 8, 8, and 1 before the cut
    assert result.manifest["rows"] == sum(result.counts.values()) == 17
    for part in result.manifest["parts"]:
        assert sum(part["verdicts"].values()) == part["rows"]
    totals = Counter[str]()
    for part in result.manifest["parts"]:
        totals.update(part["verdicts"])
    assert dict(totals) == result.counts
    assert result.counts["failed"] == sum(failures.values())
    stopped = result.counts["drop"] + result.counts["quarantine"]
    assert sum(result.manifest["dropped_by"].values()) == stopped
    told = ask(tmp_path / "store", "SELECT code, count(*) AS n FROM failures GROUP BY 1")
    assert {row["code"]: row["n"] for row in told} == {
        **failures,
        "tar_truncated": 1,
        "shard_missing": 1,
    }


def test_every_failed_member_is_told_with_its_place(tmp_path: Path) -> None:
    broken_pool(tmp_path / "pool")
    curate(BROKEN, tmp_path / "pool", tmp_path / "store")
    rows = ask(tmp_path / "store", "SELECT * FROM failures WHERE row IS NOT NULL")
    for row in rows:
        with Path(row["shard"]).open("rb") as stream:
            stream.seek(row["offset"])
            assert stream.read(100).rstrip(b"\0").decode().startswith(row["key"])
        assert row["code"]


def test_ledger_subset_and_curated_shards_say_the_same(tmp_path: Path, small_pool: Path) -> None:
    result = curate(EVERYDAY, small_pool, tmp_path / "store")
    kept = ledger_table(tmp_path / "store", result).filter(
        ledger_table(tmp_path / "store", result)["weight"].to_numpy() > 0
    )
    assert kept["verdict"].unique().to_pylist() == ["keep"]
    subset = np.load(tmp_path / "store" / "subsets" / f"{result.ledger}.npy")
    assert sorted(f"{high:016x}{low:016x}" for high, low in subset.tolist()) == sorted(
        kept["uid"].to_pylist()
    )
    originals = {}
    for tar in sorted(small_pool.glob("*.tar")):
        with tarfile.open(tar) as archive:
            originals.update({member.name: archive.extractfile(member).read() for member in archive})  # type: ignore[union-attr]
    written: list[str] = []
    for tar in sorted((tmp_path / "store" / "curated" / result.ledger).glob("*.tar")):
        stats = json.loads(tar.with_name(f"{tar.stem}_stats.json").read_text())
        with tarfile.open(tar) as archive:
            for member in archive:
                content = archive.extractfile(member).read()  # type: ignore[union-attr]
                if member.name.endswith(".curate.json"):
                    written.append(json.loads(content)["uid"])
                    stats["successes"] -= 1
                else:
                    assert originals[member.name] == content, "original bytes are untouched"
        assert stats["successes"] == 0
    assert sorted(written) == sorted(kept["uid"].to_pylist())


def test_drops_view_adds_up_to_the_rows(tmp_path: Path) -> None:
    broken_pool(tmp_path / "pool")
    result = curate(BROKEN, tmp_path / "pool", tmp_path / "store")
    (row,) = ask(tmp_path / "store", "SELECT sum(dropped) AS n FROM drops")
    assert row["n"] + result.counts["keep"] == result.manifest["rows"]


def test_a_pool_in_which_nothing_can_be_kept_still_ends_well(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", b"", "no bytes in this image"))
    write_tar(tmp_path / "pool" / "1.tar", [])
    result = curate(EVERYDAY, tmp_path / "pool", tmp_path / "store")
    assert result.counts == {"keep": 0, "drop": 0, "quarantine": 0, "failed": 1}
    assert np.load(tmp_path / "store" / "subsets" / f"{result.ledger}.npy").shape == (0,)
    assert not list((tmp_path / "store" / "curated" / result.ledger).glob("*.tar"))
    assert verdict_counts(tmp_path / "store") == {"failed": 1}


def test_a_pool_without_a_row_still_ends_well(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    result = curate(EVERYDAY, tmp_path / "pool", tmp_path / "store")
    assert result.manifest["rows"] == 0
    assert ask(tmp_path / "store", "SELECT * FROM samples WHERE uid = 'x' AND votes.caption_words") == []


def test_a_ledger_that_lost_rows_stops_the_run(
    tmp_path: Path, small_pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(folder: Folder, name: str) -> object:
        found = true_json(folder, name)
        if name.startswith("runs/results/decide/"):
            found[0]["verdicts"]["keep"] += 1
        return found

    true_json = Folder.read_json
    monkeypatch.setattr(Folder, "read_json", forget)
    with pytest.raises(InvariantBroken, match="do not add up to 12 rows"):
        curate(EVERYDAY, small_pool, tmp_path / "store")
    assert not (tmp_path / "store" / "latest.json").exists()


def test_nothing_unfinished_is_left(tmp_path: Path) -> None:
    broken_pool(tmp_path / "pool")
    curate(BROKEN, tmp_path / "pool", tmp_path / "store")
    assert not [name for name in files_of(tmp_path / "store") if ".tmp-" in name]


def test_a_key_that_would_leave_the_folder_is_made_safe(tmp_path: Path) -> None:
    names = ["../../evil", "/etc/evil", "a/../b"]
    members = [member for at, name in enumerate(names) for member in sample(name, photo(at), "a b c d")]
    write_tar(tmp_path / "pool" / "0.tar", members)
    text = EVERYDAY.replace("  - top_fraction: {by: luminance_entropy, keep: 0.5}\n", "")
    result = curate(text, tmp_path / "pool", tmp_path / "store")
    (tar,) = (tmp_path / "store" / "curated" / result.ledger).glob("*.tar")
    with tarfile.open(tar) as archive:
        for name in archive.getnames():
            assert not name.startswith("/")
            assert ".." not in name.split("/")
