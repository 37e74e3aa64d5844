"""The service does what its OpenAPI document says, whatever it is asked: schemathesis asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tests.running import ask
from tests.serve.browsing import served

# Left out: `positive_data_acceptance`, as a document can't say which range fits which column;
# `unsupported_method`, as the guard refuses what is no JSON before any route is asked.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,negative_data_rejection,missing_required_header,ignored_auth"
)
COLUMNS = ["width", "clip_cosine", "verdict", "caption"]  # of every kind
# Always the same questions; the guard's answer to other methods has tests of its own.
CONFIG = """\
[generation]
max-examples = 10
deterministic = true
[phases.coverage]
unexpected-methods = []
"""


def about(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The document, with the names that a store has: questions then reach further than to a 404."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in names:
                    parameter["schema"] = {"type": "string", "enum": [names[parameter["name"]]]}
    schemas = document["components"]["schemas"]
    schemas["Condition"]["properties"]["column"]["enum"] = COLUMNS
    schemas["HistogramsQuestion"]["properties"]["columns"]["items"]["enum"] = COLUMNS
    schemas["FacetsQuestion"]["properties"]["column"]["enum"] = COLUMNS
    return document


def test_every_route_does_what_the_document_says(
    store: Path, client: TestClient, ledger: str, tmp_path: Path
) -> None:
    decisions = [one["ledger"] for one in client.get("/api/store").json()["decisions"]]
    uid = ask(store, "SELECT uid FROM samples WHERE verdict = 'keep' ORDER BY uid LIMIT 1", ledger)[0]["uid"]
    names = {"ledger": ledger, "other": next(one for one in decisions if one != ledger), "name": uid}
    document = about(client.get("/api/openapi.json").json(), names)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    with served(store) as address:
        command = [program, "--config-file", "schemathesis.toml", "run", "openapi.json", "--url", address]
        how = ["--phases", "coverage,fuzzing", "--checks", CHECKS, "--request-timeout", "60", "--no-color"]
        run = subprocess.run(
            [*command, *how], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
        )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-1000:]
    operations = sum(len(methods) for methods in document["paths"].values())
    assert f"Tested: {operations}" in run.stdout


def test_the_document_describes_every_route_and_what_it_may_answer(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], f"{method} {path}"
            assert {"200", "400", "401", "404", "422", "503"} <= operation["responses"].keys()
    assert "/api/decisions/{ledger}/samples/{name}" in document["paths"]
