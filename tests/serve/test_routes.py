"""What the service answers, against the store and SQL."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

from curate.serve.app import make_app
from curate.serve.library import Library
from curate.serve.settings import Service
from tests.compared import HOSTILE, compared_pool
from tests.pools import photo
from tests.running import ask
from tests.serve.conftest import BOUNDS, HERE, client_of
from transforms.store import Store


def get(client: TestClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client: TestClient, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, path: str, body: Any, status: int) -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    said = str(answer.json()["error"])
    assert "Traceback" not in said
    return said


def test_the_store_lists_its_decisions(client: TestClient) -> None:
    found = get(client, "/api/store")
    assert [one["recipe"] for one in found["decisions"]] == ["stricter", "compared"]
    assert [one["latest"] for one in found["decisions"]] == [True, False]
    assert all(one["embeddings"] for one in found["decisions"])
    assert found["writing"] is False


def test_the_overview_adds_up(client: TestClient, ledger: str, store: Path) -> None:
    found = get(client, f"/api/decisions/{ledger}/overview")
    assert sum(found["verdicts"].values()) == found["rows"]
    reaching = found["rows"] - found["verdicts"]["failed"]
    for one in found["filters"]:
        assert one["reaching"] == reaching
        reaching -= one["stopped"]
    assert reaching == found["verdicts"]["keep"]
    pool = ask(store, "SELECT count(*) AS n FROM samples", ledger)[0]["n"]
    assert sum(one["samples"] for one in found["sources"]) == pool
    assert found["concepts"]
    assert found["embeddings"] == ["clip"]


def test_columns_are_described(client: TestClient, ledger: str) -> None:
    found = {one["name"]: one for one in get(client, f"/api/decisions/{ledger}/columns")}
    assert found["width"]["read_by"] == ["min_side_pixels"]
    assert found["clip_cosine"]["kind"] == "number"
    assert found["verdict"]["kind"] == "category"
    assert found["votes.prune_clusters"]["kind"] == "category"
    assert "prune_clusters/cluster_id" in found
    schema = get(client, f"/api/decisions/{ledger}/schema")
    assert {"samples", "drops", "clusters", "failures", "runs"} <= schema.keys()
    assert all(column["meaning"] for view in schema.values() for column in view)


def test_histograms_and_facets_count_the_same(client: TestClient, ledger: str) -> None:
    kept = [{"column": "verdict", "one_of": ["keep"]}]
    body = {"columns": ["width", "clip_cosine"], "conditions": kept}
    found = post(client, f"/api/decisions/{ledger}/histograms", body)
    facets = post(client, f"/api/decisions/{ledger}/facets", {"column": "verdict", "conditions": []})
    keeps = next(one["samples"] for one in facets if one["label"] == "keep")
    assert found["matching"] == keeps
    for one in found["histograms"]:
        assert sum(one["counts"]) + one["missing"] == keeps
        assert len(one["edges"]) == len(one["counts"]) + 1


def test_a_cut_shows_samples_on_either_side(client: TestClient, ledger: str) -> None:
    body = {"bound": {"column": "width", "at_least": 60}, "step": "min_side_pixels", "conditions": []}
    found = post(client, f"/api/decisions/{ledger}/cut", body)
    assert found["passing"] <= found["reaching"]
    assert all(one["at"] >= 60 for one in found["inside"])
    assert all(one["at"] < 60 for one in found["outside"])
    assert set(found["approximate"]) == {"drop_exact_duplicates", "drop_near_duplicates", "prune_clusters"}


def test_pages_are_sorted_and_carry_columns(client: TestClient, ledger: str) -> None:
    body = {"conditions": [], "sort": "width", "descending": True, "columns": ["image_format"], "limit": 7}
    found = post(client, f"/api/decisions/{ledger}/samples", body)
    widths = [one["width"] for one in found["samples"]]
    assert widths == sorted(widths, reverse=True)
    assert {one["image_format"] for one in found["samples"]} == {"JPEG"}
    assert found["matching"] == 26


def test_text_like_and_image_search(client: TestClient, ledger: str) -> None:
    found = post(
        client, f"/api/decisions/{ledger}/search", {"text": "a ship at sea", "conditions": [], "k": 5}
    )
    cosines = [one["cosine"] for one in found["samples"]]
    assert len(cosines) == 5
    assert cosines == sorted(cosines, reverse=True)
    uid = found["samples"][0]["uid"]
    kept = [{"column": "verdict", "one_of": ["keep"]}]
    body = {"like": uid, "conditions": kept, "k": 30}
    near = post(client, f"/api/decisions/{ledger}/search", body)["samples"]
    assert near
    assert {one["verdict"] for one in near} == {"keep"}
    picture = client.post(f"/api/decisions/{ledger}/search/image?k=3", content=photo(4))
    assert picture.status_code == 200, picture.text
    assert picture.json()["samples"][0]["cosine"] > 0.99


def test_a_sample_in_full(client: TestClient, ledger: str, store: Path) -> None:
    copy = ask(store, "SELECT uid FROM samples WHERE dropped_by = 'drop_exact_duplicates' LIMIT 1", ledger)
    found = get(client, f"/api/decisions/{ledger}/samples/{copy[0]['uid']}")
    assert found["sample"]["verdict"] == "drop"
    assert [one["filter"] for one in found["votes"]] == [
        "min_side_pixels", "drop_exact_duplicates", "drop_near_duplicates", "prune_clusters"
    ]  # fmt: skip
    assert found["originals"]
    original = get(client, f"/api/decisions/{ledger}/samples/{found['originals'][0]['sample']['uid']}")
    assert copy[0]["uid"] in {one["uid"] for one in original["copies"]}


def test_captions_arrive_as_they_are(client: TestClient, ledger: str) -> None:
    body = {"conditions": [], "limit": 100}
    captions = [one["caption"] for one in post(client, f"/api/decisions/{ledger}/samples", body)["samples"]]
    assert HOSTILE in captions


def test_pictures_are_read_from_their_shards(client: TestClient, ledger: str) -> None:
    answer = client.get(f"/api/decisions/{ledger}/images/0?side=32")
    assert answer.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(answer.content)).size) <= 32
    broken = post(
        client, f"/api/decisions/{ledger}/samples", {"conditions": [{"column": "failure", "missing": False}]}
    )
    number = broken["samples"][0]["number"]
    assert client.get(f"/api/decisions/{ledger}/images/{number}").status_code == 404
    drawn = client.get(f"/api/decisions/{ledger}/images/{number}?placeholder=true")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert client.get(f"/api/decisions/{ledger}/images/999").status_code == 404


def test_clusters_and_duplicates(client: TestClient, ledger: str, store: Path) -> None:
    found = get(client, f"/api/decisions/{ledger}/clusters?order=smallest")
    assert found["total"] == ask(store, "SELECT count(*) AS n FROM clusters", ledger)[0]["n"]
    assert all(one["examples"] for one in found["clusters"])
    groups = get(client, f"/api/decisions/{ledger}/duplicates")
    assert groups["total"] >= 1
    first = groups["groups"][0]
    assert first["samples"][0]["uid"] == first["original"]
    assert len(first["samples"]) >= 2


def test_sql_and_its_files(client: TestClient, ledger: str) -> None:
    found = post(client, f"/api/decisions/{ledger}/sql", {"sql": "SELECT uid, width, votes FROM samples"})
    assert [one["name"] for one in found["columns"]] == ["uid", "width", "votes"]
    assert len(found["rows"]) == 26
    body = {"sql": "SELECT uid, votes, 'a,\"b' AS text FROM samples"}
    for form in ("csv", "json", "parquet"):
        answer = client.post(f"/api/decisions/{ledger}/sql/download", json={**body, "format": form})
        assert answer.status_code == 200, answer.text
        assert f'filename="{ledger}.{form}"' in answer.headers["content-disposition"]
    assert pq.read_table(io.BytesIO(answer.content)).num_rows == 26
    assert "one SELECT" in refused(client, f"/api/decisions/{ledger}/sql", {"sql": "DROP VIEW samples"}, 400)


def test_reading_the_schema_prepares_for_sql(store: Path, ledger: str) -> None:
    service = Service(Library(Store.at(str(store))), BOUNDS)
    with TestClient(make_app(service), base_url=HERE) as client:
        get(client, f"/api/decisions/{ledger}/schema")
        process = service.sql._process
        assert process is not None
        found = post(client, f"/api/decisions/{ledger}/sql", {"sql": "SELECT count(*) FROM samples"})
        assert found["rows"] == [[26]]
        assert service.sql._process is process
    assert process.poll() is not None


def test_selections_are_saved(client: TestClient, ledger: str, store: Path) -> None:
    kept = {"conditions": [{"column": "verdict", "one_of": ["keep"]}]}
    whole = client.post(f"/api/decisions/{ledger}/subset", json=kept)
    saved = np.load(io.BytesIO(whole.content))
    uids = client.post(f"/api/decisions/{ledger}/subset", json={**kept, "format": "uids"}).text.split()
    expected = [row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'", ledger)]
    assert uids == expected
    assert [f"{high:016x}{low:016x}" for high, low in saved.tolist()] == sorted(expected)
    assert len(expected) == int(whole.headers["x-count"])
    table = pq.read_table(
        io.BytesIO(client.post(f"/api/decisions/{ledger}/subset", json={**kept, "format": "parquet"}).content)
    )
    assert table["uid"].to_pylist() == expected
    assert {"caption", "clip_cosine", "verdict"} <= set(table.column_names)
    some = {"conditions": [], "uids": expected[:2], "format": "uids"}
    assert set(client.post(f"/api/decisions/{ledger}/subset", json=some).text.split()) == set(expected[:2])
    unknown = client.post(f"/api/decisions/{ledger}/subset", json={**some, "uids": ["0" * 32]})
    assert (unknown.text, unknown.headers["x-count"]) == ("", "0")
    wrong = {**some, "uids": ["not a uid"]}
    assert "uids: " in refused(client, f"/api/decisions/{ledger}/subset", wrong, 400)


def test_a_changed_recipe_is_predicted_exactly(client: TestClient, ledger: str, store: Path) -> None:
    text = get(client, f"/api/decisions/{ledger}/recipe")["text"]
    same = post(client, f"/api/decisions/{ledger}/predict", {"text": text})
    assert (same["kept"], same["changes"], same["notes"]) == (same["now"], [], [])
    assert all(one["exact"] for one in same["filters"])
    changed = text.replace("keep: 0.5", "keep: 0.25")
    assert changed != text
    found = post(client, f"/api/decisions/{ledger}/predict", {"text": changed})
    names = [one["ledger"] for one in get(client, "/api/store")["decisions"]]
    other = next(name for name in names if name.startswith("stricter"))
    assert (
        found["kept"] == ask(store, "SELECT count(*) AS n FROM samples WHERE verdict = 'keep'", other)[0]["n"]
    )
    compared = get(client, f"/api/decisions/{ledger}/compare/{other}")
    assert compared["kept"] == found["now"]
    assert compared["other"] == found["kept"]
    assert [(one["before"], one["after"], one["samples"]) for one in compared["changes"]] == [
        (one["before"], one["after"], one["samples"]) for one in found["changes"]
    ]
    assert sum(one["samples"] for one in compared["changes"]) == 26 - compared["same"]


def test_what_was_never_compared_is_predicted_to_be_kept(client: TestClient, ledger: str) -> None:
    text = get(client, f"/api/decisions/{ledger}/recipe")["text"]
    looser = text.replace("at_least: 30", "at_least: 10")
    assert looser != text
    found = post(client, f"/api/decisions/{ledger}/predict", {"text": looser})
    assert any("what it never compared counts as kept" in one for one in found["notes"])
    assert not all(one["exact"] for one in found["filters"])
    assert [(one["before"], one["after"], one["samples"]) for one in found["changes"]] == [
        ("dropped by min_side_pixels", "kept", 2)
    ]


def test_a_recipe_that_is_wrong_is_refused_with_its_lines(client: TestClient, ledger: str) -> None:
    said = refused(
        client, f"/api/decisions/{ledger}/predict", {"text": "name: x\nfilters: [min_sid: 3]\n"}, 400
    )
    assert "did you mean min_side_pixels" in said
    unread = "name: x\nfilters: [{min_clip_cosine: {at_least: 0.1, encoder: other}}]\n"
    assert "which is not measured here" in refused(
        client, f"/api/decisions/{ledger}/predict", {"text": unread}, 400
    )
    compares = "name: x\nfilters: [{drop_exact_duplicates: bytes}]\n"
    found = post(client, f"/api/decisions/{ledger}/predict", {"text": compares})
    assert "known after a run" in found["notes"][0]


@pytest.mark.parametrize(
    ("path", "body", "expected", "message"),
    [
        ("histograms", {"columns": ["widht"], "conditions": []}, 400, "did you mean width"),
        ("histograms", {"columns": [], "conditions": [{"column": "width"}]}, 422, "exactly one of them"),
        ("histograms", {"columns": ["width"] * 21, "conditions": []}, 422, "at most 20 items"),
        ("histograms", [], 422, "valid dictionary"),
        ("facets", {"column": "width", "conditions": []}, 400, "give a range"),
        ("cut", {"bound": {"column": "width", "at_least": 1}, "step": "x", "conditions": []}, 400, "filter"),
        ("samples", {"conditions": [], "limit": 201}, 422, "less than or equal to 200"),
        ("samples", {"conditions": [], "sort": "verdict"}, 400, "not numbers"),
        ("search", {"conditions": []}, 400, "give a text, or the uid"),
        ("search", {"conditions": [], "like": "nobody"}, 404, "no sample with uid or key"),
        ("subset", {"conditions": [], "uids": ["x"]}, 400, "32 hex digits"),
        ("sql", {"sql": ""}, 422, "at least 1 character"),
    ],
)  # fmt: skip
def test_wrong_questions_are_answered_with_the_reason(
    client: TestClient, ledger: str, *, path: str, body: Any, expected: int, message: str
) -> None:
    assert message in refused(client, f"/api/decisions/{ledger}/{path}", body, expected)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 broken", b"<svg/>"])
def test_uploads_that_are_no_image_are_refused(client: TestClient, ledger: str, content: bytes) -> None:
    answer = client.post(f"/api/decisions/{ledger}/search/image", content=content)
    assert answer.status_code in {400, 422}
    assert answer.json()["error"]


def test_a_bomb_is_refused(client: TestClient, ledger: str) -> None:
    stream = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(stream, "PNG")
    answer = client.post(f"/api/decisions/{ledger}/search/image", content=stream.getvalue())
    assert answer.status_code == 400
    assert "pixels" in answer.json()["error"]


def test_unknown_decisions_and_samples(client: TestClient, ledger: str) -> None:
    for path in ("overview", "columns", "schema", "recipe", "clusters"):
        answer = client.get(f"/api/decisions/nothing/{path}")
        assert answer.status_code == 404
        assert "no finished decision 'nothing'" in answer.json()["error"]
    assert client.get(f"/api/decisions/{ledger}/samples/nobody").status_code == 404
    assert client.get(f"/api/decisions/{ledger}/compare/nothing").status_code == 404
    assert client.get("/api/nothing").status_code == 404


def test_shards_that_are_gone_leave_a_placeholder(tmp_path: Path) -> None:
    from tests.compared import compared_run

    compared_run(tmp_path)
    for shard in (tmp_path / "pool").glob("*.tar"):
        shard.unlink()
    with client_of(tmp_path / "store") as client:
        name = get(client, "/api/store")["decisions"][0]["ledger"]
        assert client.get(f"/api/decisions/{name}/images/0").status_code == 404
        drawn = client.get(f"/api/decisions/{name}/images/0?placeholder=true")
        assert drawn.headers["content-type"].startswith("image/svg+xml")


def test_stores_that_can_not_be_served(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        assert client.get("/api/store").status_code == 503
        assert "not a Curate store" in client.get("/api/store").json()["error"]
    (tmp_path / "store.json").write_text(json.dumps({"curate_store": 1}))
    with client_of(tmp_path) as client:
        assert get(client, "/api/store")["decisions"] == []
        assert client.get("/api/decisions/x/overview").status_code == 404
    (tmp_path / "store.json").write_text(json.dumps({"curate_store": 99}))
    with client_of(tmp_path) as client:
        assert "store layout 99" in client.get("/api/store").json()["error"]


def test_a_decision_that_is_still_written_is_not_shown(store: Path, client: TestClient) -> None:
    unfinished = store / "ledger" / "unfinished-00000000"
    unfinished.mkdir()
    try:
        names = [one["ledger"] for one in get(client, "/api/store")["decisions"]]
        assert unfinished.name not in names
        assert client.get(f"/api/decisions/{unfinished.name}/overview").status_code == 404
    finally:
        unfinished.rmdir()


def test_the_pool_of_the_tests_has_what_they_need(tmp_path: Path) -> None:
    assert len(list(compared_pool(tmp_path).glob("*.tar"))) == 2
