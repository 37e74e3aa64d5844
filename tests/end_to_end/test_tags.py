"""Tags reach the ledger, the view and the json of kept samples; recipes may ask for them in `output`."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.query import describe_samples, open_decision
from curate.run import RunResult
from tests.pools import Member, sample, write_tar
from tests.running import ask, curate, files_of, ledger_table, plan_of, why
from transforms.store import Store

DEMO_MODEL = Path(__file__).parents[2] / "curate" / "demo" / "model"
CLIP = f"measures: {{clip: {{model: 'local-dir:{DEMO_MODEL}'}}}}\n"
RECIPE = f"""\
name: tagged
{CLIP}\
filters:
  - drop_mismatched: {{by: luminance_mean, at_least_rows: 20, p_clean_below: 0.5}}
output: {{alignment_levels: 4, weights: p_clean, samples_per_shard: 7, report: false}}
max_failed_fraction: 1
"""
ROWS = 40


def picture(seed: int, brightness: float) -> bytes:
    """A PNG of grain around a brightness."""
    grain = np.random.default_rng(seed).normal(brightness, 12, (32, 32, 3))
    stream = io.BytesIO()
    Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tars of twenty pictures each, ten of them dark, and one broken one."""
    folder = tmp_path_factory.mktemp("tags")
    generator = np.random.default_rng(0)
    for number in range(2):
        members: list[Member] = []
        for at in range(ROWS // 2):
            brightness = generator.normal(60 if at < 10 else 180, 6)
            members += sample(
                f"{number}{at:03d}",
                picture(100 * number + at, brightness),
                f"a picture {at}",
                extension="png",
            )
        members += sample(f"{number}bad", b"", "no picture at all", extension="png")
        write_tar(folder / "pool" / f"{number}.tar", members)
    return folder / "pool"


@pytest.fixture(scope="module")
def store(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of RECIPE."""
    folder = tmp_path_factory.mktemp("tags-store") / "store"
    curate(RECIPE, pool, folder)
    return folder


def curated(store: Path, result: RunResult) -> dict[str, dict[str, Any]]:
    """The json member of every kept sample, by its key."""
    found = {}
    for path in sorted((store / "curated" / result.ledger).glob("*.tar")):
        with tarfile.open(path) as archive:
            for name in archive.getnames():
                if name.endswith(".curate.json"):
                    content = json.load(archive.extractfile(name))  # type: ignore[arg-type]
                    found[name.removesuffix(".curate.json")] = content
    return found


def fitted(said: list[str]) -> set[str]:
    return {text.split(",")[0].removeprefix("fitting ") for text in said if text.startswith("fitting ")}


def test_kept_samples_carry_their_tags_and_weight(pool: Path, store: Path) -> None:
    result = curate(RECIPE, pool, store)
    rows = {row["key"]: row for row in ask(store, "SELECT * FROM samples")}
    kept = {key for key, row in rows.items() if row["verdict"] == "keep"}
    found = curated(store, result)
    assert found.keys() == kept
    assert len(kept) == ROWS // 2
    for key, content in found.items():
        assert content["tags"]["alignment_level"] == rows[key]["alignment_level"]
        assert np.float32(content["tags"]["p_clean"]) == np.float32(rows[key]["p_clean"])
        assert content["weight"] == content["tags"]["p_clean"] > 0.5
    assert {content["tags"]["alignment_level"] for content in found.values()} <= set(range(4))


def test_the_ledger_has_the_tags_of_every_row_that_could_be_read(pool: Path, store: Path) -> None:
    result = curate(RECIPE, pool, store)
    table = ledger_table(store, result)
    assert [str(table.schema.field(name).type) for name in ("p_clean", "alignment_level")] == [
        "float",
        "int8",
    ]
    for row in table.to_pylist():
        known = row["verdict"] != "failed"
        assert (row["p_clean"] is not None) == (row["alignment_level"] is not None) == known
    levels = table["alignment_level"].drop_null().to_pylist()
    assert (min(levels), max(levels)) == (0, 3)
    assert result.manifest["tags"] == ["p_clean", "alignment_level"]
    assert result.manifest["dropped_by"] == {"drop_mismatched": ROWS // 2, "alignment_levels": 0}


def test_the_view_describes_tags_only_where_there_are_any(pool: Path, store: Path, tmp_path: Path) -> None:
    described = {name for name, _, _ in describe_samples(open_decision(Store.at(str(store))))}
    assert {"p_clean", "alignment_level"} <= described
    plain = "name: plain\nfilters: [{min_side_pixels: 1}]\noutput: {report: false}\nmax_failed_fraction: 1\n"
    result = curate(plain, pool, tmp_path / "store")
    described = {name for name, _, _ in describe_samples(open_decision(Store.at(str(tmp_path / "store"))))}
    assert not {"p_clean", "alignment_level"} & described
    assert all(
        content.keys() == {"uid", "recipe", "signals"}
        for content in curated(tmp_path / "store", result).values()
    )


def test_a_pool_without_rows_has_the_same_columns(store: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(RECIPE, tmp_path / "pool", tmp_path / "store")
    kinds = "SELECT column_name, column_type FROM (DESCRIBE samples) ORDER BY ALL"
    wanted = {"p_clean": "FLOAT", "alignment_level": "TINYINT"}
    for one in (store, tmp_path / "store"):
        found = {row["column_name"]: row["column_type"] for row in ask(one, kinds)}
        assert {name: found[name] for name in wanted} == wanted


def test_other_output_options_measure_nothing_again(pool: Path, tmp_path: Path) -> None:
    first = curate(RECIPE, pool, tmp_path / "store")
    said: list[str] = []
    plain = curate(RECIPE.replace("weights: p_clean, ", ""), pool, tmp_path / "store", said=said)
    assert plain.ledger == first.ledger
    assert said[0] == "all 2 shards are measured"
    assert fitted(said) == set()
    contents = curated(tmp_path / "store", plain)
    assert len(contents) == ROWS // 2
    assert not any("weight" in content for content in contents.values())
    said.clear()
    finer = RECIPE.replace("alignment_levels: 4", "alignment_levels: 16")
    assert plan_of(finer, pool, tmp_path / "store").to_measure() == []
    second = curate(finer, pool, tmp_path / "store", said=said)
    assert said[0] == "all 2 shards are measured"
    assert fitted(said) == {"alignment_levels"}
    assert second.ledger != first.ledger
    assert second.counts == first.counts
    assert max(one["tags"]["alignment_level"] for one in curated(tmp_path / "store", second).values()) > 3


def test_two_workers_write_the_bytes_of_one(pool: Path, store: Path, tmp_path: Path) -> None:
    curate(RECIPE, pool, tmp_path / "store", workers=2)
    ours, theirs = files_of(tmp_path / "store"), files_of(store)
    names = [name for name in ours if name.startswith(("ledger/", "artefacts/", "curated/"))]
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}


def test_a_recipe_that_tags_only_keeps_every_sample_and_explains_it(pool: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("p_clean_below: 0.5", "p_clean_below: 0.5, only_tag: true")
    result = curate(text, pool, tmp_path / "store")
    assert result.counts == {"keep": ROWS, "drop": 0, "quarantine": 0, "failed": 2}
    weights = [content["weight"] for content in curated(tmp_path / "store", result).values()]
    assert sum(weight < 0.5 for weight in weights) == sum(weight >= 0.5 for weight in weights) == ROWS // 2
    found = why(tmp_path / "store", "0000")
    assert found.sample["verdict"] == "keep"
    assert [(vote.vote, vote.only_tag, vote.decided) for vote in found.votes] == [
        ("drop", True, False),
        ("keep", True, False),
    ]
    assert found.tags["p_clean"] == pytest.approx(0, abs=0.1)
    (row,) = ask(tmp_path / "store", "SELECT dropped, alone FROM drops WHERE filter = 'drop_mismatched'")
    assert row == {"dropped": 0, "alone": ROWS // 2}


def test_a_weight_that_nobody_knows_is_null(pool: Path, tmp_path: Path) -> None:
    """One group of scores: no answer, and every sample stays."""
    text = RECIPE.replace("p_clean_below: 0.5", "on_null: keep").replace("luminance_mean", "width")
    contents = curated(tmp_path / "store", curate(text, pool, tmp_path / "store"))
    assert len(contents) == ROWS
    assert all(
        content["weight"] is None and "p_clean" not in content["tags"] for content in contents.values()
    )


# --- the published rule for NormSim

NORM_SIM = f"""\
name: norm
{CLIP}\
filters:
  - top_fraction: {{by: s_clip_loss, keep: 0.5}}
  - top_fraction: {{by: norm_sim, of_pool: 0.2, target: target.npy}}
output: {{report: false, shards: false}}
max_failed_fraction: 1
"""


def test_a_share_of_the_pool_by_norm_sim_to_a_target_needs_no_line_of_measures(
    pool: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = next((store / "embeddings").glob("clip-*/img/0-*.npy"))
    target = np.load(embeddings)[:5]
    np.save(tmp_path / "target.npy", target)
    monkeypatch.chdir(tmp_path)
    plan = plan_of(NORM_SIM, pool, tmp_path / "store")
    assert {measure.name for measure in (*plan.measures, *plan.collective)} >= {"norm_sim", "s_clip_loss"}
    result = curate(NORM_SIM, pool, tmp_path / "store")
    rows = ask(tmp_path / "store", "SELECT key, verdict, dropped_by, s_clip_loss, norm_sim FROM samples")
    readable = [row for row in rows if row["verdict"] != "failed"]
    assert all(row["norm_sim"] is not None and row["s_clip_loss"] is not None for row in readable)
    reached = [row for row in readable if row["dropped_by"] != "top_fraction"]
    assert len(reached) == len(readable) // 2
    # 20 % of the 42 rows read, broken ones included: of the 20 that s-CLIPLoss let through.
    kept = [row for row in reached if row["verdict"] == "keep"]
    assert len(kept) == int(0.2 * len(rows)) == 8
    assert min(row["norm_sim"] for row in kept) >= max(
        row["norm_sim"] for row in reached if row["verdict"] != "keep"
    )
    assert result.manifest["artefacts"]["top_fraction_2"]["pool_rows"] == 42


def test_the_same_target_elsewhere_is_the_same_decision(
    pool: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.load(next((store / "embeddings").glob("clip-*/img/0-*.npy")))[:5]
    for name in ("target.npy", "moved.npy"):
        np.save(tmp_path / name, content)
    np.save(tmp_path / "other.npy", content[:2])
    monkeypatch.chdir(tmp_path)
    ledgers = []
    for name in ("target.npy", "moved.npy", "other.npy"):
        plan = plan_of(NORM_SIM.replace("target.npy", name), pool, tmp_path / "store")
        ledgers.append(plan.ledger_id([shard.part for shard in plan.shards]))
    assert ledgers[0] == ledgers[1] != ledgers[2]
