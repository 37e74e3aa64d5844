"""The laws that every filter keeps, checked for all that the catalogue finds."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.catalogue import filter_kind, filter_names, find_filter
from filters.core.decide import NO_VOTES, Step, decide, survivors
from filters.core.declaration import Columns, Filter, FittedFilter, Judgement
from filters.core.tags import TAGS, declared_tags
from tests.filters.examples import EXAMPLES, IDENTITY, columns_for, cut, fit, fitted_step, rules, take

ROWS = 60
each_filter = pytest.mark.parametrize("name", filter_names())
each_rule = pytest.mark.parametrize("rule", rules())


def said(judgement: Judgement) -> list[tuple[Any, ...]]:
    """What the judgement says of each row, comparable: (verdict or None, value)."""
    values = (
        judgement.value.to_pylist() if isinstance(judgement.value, pa.Array) else judgement.value.tolist()
    )
    return [
        (None if null else bool(passes), None if value != value else value)  # noqa: PLR0124  (NaN)
        for passes, null, value in zip(judgement.passes, judgement.null, values, strict=True)
    ]


def judged_columns(rule: Filter) -> list[str]:
    """The names under which the columns that decide stand among a step's columns."""
    if rule.relation is not None:
        return [f"step/{name}" for name in rule.relation_reads if name != "duplicate_of"]
    if isinstance(rule, FittedFilter):
        return [name for name in rule.reads() if name not in IDENTITY]
    return list(rule.reads())


def without(columns: Columns, name: str, row: int, value: float | None = None) -> Columns:
    """The columns with null, or another value, at one place."""
    changed = columns[name].to_pylist()
    changed[row] = value
    return {**columns, name: pa.array(changed, columns[name].type)}


def known_row(step: Step, columns: Columns) -> int:
    """A row that the step can judge."""
    return int(np.flatnonzero(~step.judge(columns).null)[0])


def test_every_filter_has_examples() -> None:
    assert sorted(EXAMPLES) == filter_names()
    assert all(EXAMPLES.values())


@each_filter
def test_a_filter_documents_itself(name: str) -> None:
    declared = find_filter(name)
    assert declared.__module__ == f"filters.{name}"
    assert declared.__doc__
    assert declared.__doc__ != Filter.__doc__
    assert declared.__doc__.split(" ")[0] in ("Keep", "Drop"), "the first line says what is kept or dropped"
    undescribed = [field for field, info in declared.model_fields.items() if not info.description]
    assert undescribed == []
    assert filter_kind(declared) in ("row", "fitted", "relational")
    assert declared.shorthand is None or declared.shorthand in declared.model_fields


@each_filter
def test_the_class_is_named_after_the_recipe_key(name: str) -> None:
    assert find_filter(name).__name__ == "".join(word.title() for word in name.split("_"))


@each_filter
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="wrong_option"):
        find_filter(name).model_validate({**EXAMPLES[name][0], "wrong_option": 1})


@each_filter
def test_no_bound_is_nan_or_infinite(name: str) -> None:
    for option, value in EXAMPLES[name][0].items():
        if isinstance(value, int | float):
            for wrong in (float("nan"), float("inf")):
                with pytest.raises(ValidationError):
                    find_filter(name).model_validate({**EXAMPLES[name][0], option: wrong})


@each_rule
def test_options_survive_json(rule: Filter) -> None:
    assert type(rule).model_validate(json.loads(rule.model_dump_json())) == rule
    assert type(rule).model_validate_json(json.dumps(rule.model_dump(mode="json"))) == rule


@each_rule
def test_a_rule_is_frozen(rule: Filter) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        rule.on_null = "drop"


@each_rule
def test_reads_are_names_of_columns(rule: Filter) -> None:
    names = rule.reads()
    assert isinstance(names, tuple)
    assert names
    assert len(set(names)) == len(names)
    assert all(isinstance(name, str) and name.isidentifier() for name in names)


@each_rule
def test_a_judgement_has_one_answer_for_each_row(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    judgement = fitted_step(rule, columns).judge(columns)
    assert judgement.passes.dtype == judgement.null.dtype == np.bool_
    assert judgement.passes.shape == judgement.null.shape == (ROWS,)
    assert len(judgement.value) == ROWS
    assert judgement.bound.strip()


@each_rule
def test_the_examples_keep_some_rows_and_drop_some(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    judgement = fitted_step(rule, columns).judge(columns)
    known = judgement.passes[~judgement.null]
    if rule.only_tag:
        assert known.all()
        assert all(len(np.unique(values)) > 2 for values in judgement.tags.values())
        return
    assert 0 < np.count_nonzero(known) < len(known), "an example that decides nothing tests nothing"


@each_rule
def test_judging_is_pure(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    before = {name: column.to_pylist() for name, column in columns.items()}
    step = fitted_step(rule, columns)
    artefact = json.dumps(step.artefact)
    assert said(step.judge(columns)) == said(step.judge(columns))
    assert {name: column.to_pylist() for name, column in columns.items()} == before
    assert json.dumps(step.artefact) == artefact


@each_rule
def test_each_row_is_judged_alone(rule: Filter) -> None:
    """The whole batch, every row by itself, and a shuffled batch agree."""
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    whole = said(step.judge(columns))
    assert [said(step.judge(cut(columns, row, 1)))[0] for row in range(ROWS)] == whole
    order = np.random.default_rng(1).permutation(ROWS)
    shuffled = said(step.judge(take(columns, order)))
    assert [shuffled[at] for at in np.argsort(order)] == whole


@each_rule
def test_an_empty_batch_is_judged(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    assert said(step.judge(cut(columns, 0, 0))) == []
    empty, full = decide(cut(columns, 0, 0), [step]), decide(columns, [step])
    assert empty.num_rows == 0
    assert empty.schema == full.schema


@each_rule
def test_a_step_survives_pickling(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    copy = pickle.loads(pickle.dumps(step))  # noqa: S301  (our own bytes)
    assert copy == step
    assert said(copy.judge(columns)) == said(step.judge(columns))


@each_rule
def test_null_in_is_null_out(rule: Filter) -> None:
    """A missing value is never a silent pass, nor a silent drop."""
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    row = known_row(step, columns)
    assert judged_columns(rule)
    for name in judged_columns(rule):
        null = step.judge(without(columns, name, row)).null
        assert null[row], name
        assert np.array_equal(np.delete(null, row), np.delete(step.judge(columns).null, row)), name


@each_rule
def test_nan_is_null(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    row = known_row(step, columns)
    for name in judged_columns(rule):
        if pa.types.is_floating(columns[name].type):
            assert step.judge(without(columns, name, row, float("nan"))).null[row], name


@each_rule
@pytest.mark.parametrize(
    ("on_null", "verdict", "blamed", "weight"),
    [("quarantine", "quarantine", "step", 0), ("drop", "drop", "step", 0), ("keep", "keep", None, 1)],
)
def test_on_null_decides_what_cannot_be_judged(
    rule: Filter, on_null: str, verdict: str, blamed: str | None, weight: int
) -> None:
    told = rule.model_copy(update={"on_null": on_null})
    columns = columns_for(told, ROWS)
    step = fitted_step(told, columns)
    row = known_row(step, columns)
    columns = without(columns, judged_columns(told)[0], row)
    decided = decide(columns, [step]).to_pylist()[row]
    if rule.only_tag:
        verdict, blamed, weight = "keep", None, 1
    assert (decided["verdict"], decided["dropped_by"], decided["weight"]) == (verdict, blamed, weight)
    assert decided["votes"] == {"step": None}
    assert survivors(columns, [step])[row] == (verdict == "keep")


@each_rule
def test_a_failed_row_is_failed_whatever_the_filter_says(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    failures = ["not_an_image" if row % 2 else None for row in range(ROWS)]
    columns["failure"] = pa.array(failures, pa.string())
    decided = decide(columns, [step])
    for row in decided.to_pylist()[1::2]:
        assert row["verdict"] == "failed"
        assert row["weight"] == 0
        assert [row[name] for name in ("dropped_by", "value", "value_text", "bound")] == [None] * 4
    assert "failed" not in decided["verdict"].to_pylist()[0::2]
    assert not survivors(columns, [step])[1::2].any()


@each_rule
def test_what_a_filter_tags_stands_in_the_ledger_of_every_row(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    stated = step.judge(columns).tags
    assert tuple(stated) == rule.tags
    assert declared_tags([rule]) == tuple(name for name in TAGS if name in rule.tags)
    decided = decide(columns, [step])
    for name, values in stated.items():
        assert decided.schema.field(name).type == TAGS[name].type
        expected = [None if value != value else value for value in values.tolist()]  # noqa: PLR0124  (NaN)
        assert decided[name].to_pylist() == pytest.approx(expected, nan_ok=True)


@each_rule
def test_a_filter_that_only_tags_votes_the_same_and_stops_nothing(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    deciding = fitted_step(rule, columns)
    tagging = replace(deciding, rule=rule.model_copy(update={"only_tag": True}))
    found, told = decide(columns, [tagging]), decide(columns, [deciding])
    assert found.schema == told.schema
    for name in ("votes", *rule.tags):
        assert found[name].equals(told[name])
    assert set(found["verdict"].to_pylist()) == {"keep"}
    assert found["dropped_by"].null_count == ROWS
    assert survivors(columns, [tagging]).all()


@each_rule
def test_the_ledger_and_the_survivors_agree(rule: Filter) -> None:
    columns = columns_for(rule, ROWS)
    step = fitted_step(rule, columns)
    kept = [verdict == "keep" for verdict in decide(columns, [step])["verdict"].to_pylist()]
    assert survivors(columns, [step]).tolist() == kept


def needs_a_fit(rule: Filter) -> bool:
    return isinstance(rule, FittedFilter) and not rule.complete(rule.start())


each_fitted = pytest.mark.parametrize("rule", [rule for rule in rules() if needs_a_fit(rule.values[0])])


@each_fitted
def test_a_fit_does_not_depend_on_order_or_partition(rule: FittedFilter) -> None:
    columns = columns_for(rule, ROWS)
    whole = fit(rule, [columns])
    generator = np.random.default_rng(2)
    for parts in (2, 7, ROWS):
        shuffled = take(columns, generator.permutation(ROWS))
        borders = np.linspace(0, ROWS, parts + 1).astype(int)
        batches = [cut(shuffled, a, b - a) for a, b in pairwise(borders)]
        assert fit(rule, [*batches, cut(columns, 0, 0)]) == whole


@each_fitted
def test_accumulators_are_merged_alike_from_either_side(rule: FittedFilter) -> None:
    columns = Step("step", rule).view(columns_for(rule, ROWS))
    a, b, c = (rule.accumulate(rule.start(), cut(columns, start, 20)) for start in (0, 20, 40))
    whole = rule.accumulate(rule.start(), columns)
    for merged in (rule.merge(rule.merge(a, b), c), rule.merge(c, rule.merge(b, a))):
        assert sorted(merged) == sorted(whole)
        for name, counted in whole.items():
            assert np.array_equal(merged[name], counted)
            assert np.issubdtype(counted.dtype, np.integer), "floats would depend on the order"


@each_fitted
def test_an_artefact_survives_json(rule: FittedFilter) -> None:
    columns = columns_for(rule, ROWS)
    artefact = fit(rule, [columns])
    read = json.loads(json.dumps(artefact))
    assert read == artefact
    assert said(Step("step", rule, read).judge(columns)) == said(Step("step", rule, artefact).judge(columns))


@each_fitted
def test_an_empty_population_is_fitted(rule: FittedFilter) -> None:
    columns = columns_for(rule, ROWS)
    for batches in ([], [cut(columns, 0, 0)]):
        artefact = fit(rule, batches)
        assert not Step("step", rule, artefact).judge(columns).passes.any()


@each_fitted
def test_a_rule_that_is_not_fitted_says_so(rule: FittedFilter) -> None:
    with pytest.raises(ValueError, match="step is not fitted yet"):
        Step("step", rule).judge(columns_for(rule, ROWS))


def test_a_recipe_without_filters_keeps_every_readable_row() -> None:
    columns = {"uid": pa.array(["a" * 32, "b" * 32]), "failure": pa.array([None, "timeout"], pa.string())}
    table = decide(columns, [])
    assert table["verdict"].to_pylist() == ["keep", "failed"]
    assert table.schema.field("votes").type == NO_VOTES
