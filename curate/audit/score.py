"""From a file of answers to the result in the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curate.audit.answers import answers_of, count_answers, find_draw, read_sample
from curate.audit.result import AuditResult, audit_result, audited_csv, result_json
from curate.query import Decision
from transforms.storage import redact


@dataclass(frozen=True)
class Score:
    """A result that lies in the store; where: path or URL of the draw's folder."""

    result: AuditResult
    where: str


def score_audit(decision: Decision, answers: Path, *, budget: int | None, seed: int | None) -> Score:
    """Reads the answers, estimates, and writes result.json and audited.csv beside the draw.

    budget, seed: of the draw; None where the decision has only one that fits.
    Raises: QueryError where there is no such draw, or the answers are not its answers; StoreError
    where the store can't be read or written.
    """
    name = find_draw(decision, budget, seed)
    rows = read_sample(decision, name)
    said = answers_of(answers, rows, name)
    strata = count_answers(rows, said)
    result = audit_result(strata, [item["name"] for item in decision.manifest["recipe"]["filters"]])
    folder = decision.store.folder
    folder.write_json(f"{name}/result.json", result_json(result, name, decision.ledger))
    with folder.commit(f"{name}/audited.csv") as path:
        path.write_text(audited_csv(rows, said, strata), encoding="utf-8", newline="")
    where = folder.path(name) if folder.local else f"{redact(folder.url)}/{name}"
    return Score(result, where)
