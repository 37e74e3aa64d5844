"""A plan refuses what can't work before any work, and names decisions by what they depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.plan import DECIDED, _options, describe_steps
from curate.query import LEDGER_MEANING
from filters.core.errors import MissingSignal, ModelError, PoolError, RecipeError
from filters.core.tags import TAGS
from tests.pools import metadata_shard, photo, sample, write_tar
from tests.running import EVERYDAY, plan_of

DEMO_MODEL = Path(__file__).parents[2] / "curate" / "demo" / "model"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "a small picture here"))


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return metadata_shard(tmp_path / "metadata" / "0.parquet", [{}])


def recipe(filters: str, rest: str = "") -> str:
    return f"name: mine\nfilters:\n  - {filters}\n{rest}"


CLIP = f"measures: {{clip: {{model: 'local-dir:{DEMO_MODEL}'}}}}\n"

# Filter of an image pool; what the message says.
MISSING = {
    "clip not configured": (
        "min_clip_cosine: 0.3",
        ("filter min_clip_cosine reads 'clip_cosine'", "add to `measures`: `clip: {measure: clip, model: …"),
    ),
    "clip of another name": (
        "min_clip_cosine: {at_least: 0.3, encoder: big}",
        ("reads 'big_cosine'", "`big: {measure: clip"),
    ),
    "head not configured": (
        "min_head_score: {head: aesthetic, at_least: 5}",
        ("reads 'aesthetic_score'", "`aesthetic: {measure: score_head, checkpoint: …}`"),
    ),
    "misspelt column": (
        "top_fraction: {by: widht, keep: 0.5}",
        ("reads 'widht', which no measure of this recipe and pool writes", "did you mean width"),
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_filter_without_its_signal_says_what_to_add(case: str, pool: Path, tmp_path: Path) -> None:
    filters, words = MISSING[case]
    with pytest.raises(MissingSignal) as caught:
        plan_of(recipe(filters), pool, tmp_path / "store")
    for said in words:
        assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_image_filter_on_metadata_says_that_it_needs_images(metadata: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingSignal, match="it needs images, but this pool holds DataComp metadata only"):
        plan_of(recipe("min_entropy: 1"), metadata, tmp_path / "store")


def test_a_clip_measure_on_metadata_says_that_it_needs_images(metadata: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingSignal, match="the measure 'clip' needs images"):
        plan_of(recipe("min_clip_cosine: 0.3", CLIP), metadata, tmp_path / "store")


def test_a_measure_that_the_pool_has_no_use_for_is_told(metadata: Path, tmp_path: Path) -> None:
    assert plan_of(recipe("caption_words: 3", CLIP), metadata, tmp_path / "store").unused == ("clip",)


@pytest.mark.parametrize("column", ["caption", "failure"])
def test_ranking_by_text_is_refused(column: str, pool: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"filter top_fraction: column '{column}' holds .* needs numbers"):
        plan_of(recipe(f"top_fraction: {{by: {column}, keep: 0.5}}"), pool, tmp_path / "store")


def test_a_head_without_its_encoder_is_refused(pool: Path, tmp_path: Path, shared: Path) -> None:
    head = shared / "models" / "laion-aesthetic" / "sa_0_4_vit_l_14_linear.pth"
    rest = f"measures: {{nice: {{measure: score_head, checkpoint: '{head}', encoder: big}}}}\n"
    with pytest.raises(RecipeError, match=r"'nice' reads the embeddings of 'big'.*add a clip measure"):
        plan_of(recipe("caption_words: 3", rest), pool, tmp_path / "store")


@pytest.mark.parametrize(
    "name", ["uid", "caption", "row", "verdict", "weight", "votes", "shard_number", "WIDTH"]
)
def test_a_measure_whose_column_is_taken_is_refused(name: str, pool: Path, tmp_path: Path) -> None:
    rest = f"measures: {{{name}: {{measure: language}}}}\n"
    with pytest.raises(RecipeError, match=rf"both write '{name}': rename one"):
        plan_of(recipe("caption_words: 3", rest), pool, tmp_path / "store")


def test_every_column_of_the_ledger_is_taken() -> None:
    assert {*DECIDED, *TAGS} == set(LEDGER_MEANING)


def test_an_unknown_checkpoint_is_refused_before_any_work(pool: Path, tmp_path: Path) -> None:
    rest = "measures: {clip: {model: ViT-B-32, pretrained: openia}}\n"
    with pytest.raises(ModelError, match="did you mean openai"):
        plan_of(recipe("min_clip_cosine: 0.3", rest), pool, tmp_path / "store")


def test_an_unknown_detector_is_refused_before_any_work(pool: Path, tmp_path: Path) -> None:
    rest = "measures: {language: {detector: langdi}}\n"
    with pytest.raises(RecipeError, match="did you mean langid"):
        plan_of(recipe("language: en", rest), pool, tmp_path / "store")


def test_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no pool given: use --pool"):
        plan_of(EVERYDAY, [], tmp_path / "store")


def test_a_relative_pool_stands_beside_its_recipe(pool: Path, tmp_path: Path) -> None:
    from curate.recipe import load_recipe

    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\npool: {uri: pool/*.tar}\nfilters: []\n")
    assert load_recipe(path).file.pool.uris == (str(tmp_path / "pool/*.tar"),)
    assert pool.is_file()


def test_a_plan_writes_nothing(pool: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan = plan_of(EVERYDAY, pool, tmp_path / "store")
    assert [step["filter"] for step in describe_steps(plan)][-1] == "top_fraction"
    assert plan.ledger_id([shard.part for shard in plan.shards])
    assert sorted(tmp_path.rglob("*")) == before


def ledger_of(text: str, pool: Path, store: Path) -> str:
    plan = plan_of(text, pool, store)
    return plan.ledger_id([shard.part for shard in plan.shards])


MODEL = EVERYDAY.replace("filters:", f"{CLIP}filters:")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EVERYDAY, EVERYDAY.replace("min_side_pixels: 30", "min_side_pixels: 31")),
        (EVERYDAY, EVERYDAY.replace("keep: 0.5", "keep: 0.51")),
        (EVERYDAY, EVERYDAY.replace("caption_words: 3", "caption_words: {at_least: 3, on_null: keep}")),
        (EVERYDAY, EVERYDAY.replace("  - caption_words: 3\n", "")),
        (EVERYDAY, EVERYDAY.replace("name: everyday", "name: other")),
        (EVERYDAY, EVERYDAY.replace("{retry_seconds: []}", "{retry_seconds: [], max_pixels: 9}")),
        (EVERYDAY, MODEL),
        (MODEL, MODEL.replace("model'}", "model', precision: bf16}")),
    ],
)
def test_another_rule_measure_or_reading_is_another_decision(
    one: str, other: str, pool: Path, tmp_path: Path
) -> None:
    assert one != other
    assert ledger_of(one, pool, tmp_path / "store") != ledger_of(other, pool, tmp_path / "store")


def test_options_that_came_later_count_only_where_they_are_given(pool: Path, tmp_path: Path) -> None:
    """So decisions that were stored before there were such options are found again."""
    for step in plan_of(EVERYDAY, pool, tmp_path / "store").recipe.steps:
        assert not set(_options(step.rule)) & {"only_tag", "of_pool", "target"}
        assert "on_null" in _options(step.rule)
    for old, new in (
        ("caption_words: 3", "caption_words: {at_least: 3, only_tag: true}"),
        ("keep: 0.5", "of_pool: 0.5"),
    ):
        other = ledger_of(EVERYDAY.replace(old, new), pool, tmp_path / "store")
        assert other != ledger_of(EVERYDAY, pool, tmp_path / "store")


def test_another_order_is_another_decision(pool: Path, tmp_path: Path) -> None:
    one = "name: a\nfilters: [{caption_words: 3}, {min_side_pixels: 3}]\n"
    other = "name: a\nfilters: [{min_side_pixels: 3}, {caption_words: 3}]\n"
    assert ledger_of(one, pool, tmp_path / "store") != ledger_of(other, pool, tmp_path / "store")


def test_another_pool_is_another_decision(pool: Path, tmp_path: Path) -> None:
    copy = write_tar(tmp_path / "pool" / "1.tar", sample("a", photo(1), "a small picture here"))
    assert ledger_of(EVERYDAY, pool, tmp_path / "store") != ledger_of(EVERYDAY, copy, tmp_path / "store")


@pytest.mark.parametrize(
    "other",
    [
        EVERYDAY.replace("{retry_seconds: []}", "{retry_seconds: [9], storage_options: {auto_mkdir: true}}"),
        EVERYDAY.replace("samples_per_shard: 4", "samples_per_shard: 9, subset: false"),
        EVERYDAY.replace("max_failed_fraction: 1", "max_failed_fraction: 0.5"),
        EVERYDAY.replace("name: everyday", "name: everyday\ndescription: in other words"),
    ],
)
def test_output_and_storage_options_do_not_change_the_decision(
    other: str, pool: Path, tmp_path: Path
) -> None:
    assert other != EVERYDAY
    assert ledger_of(EVERYDAY, pool, tmp_path / "store") == ledger_of(other, pool, tmp_path / "store")


# --- tags

MIXTURE = "drop_mismatched: {by: sharpness}"


@pytest.mark.parametrize(
    ("filters", "rest", "column"),
    [
        (MIXTURE, "measures: {p_clean: {measure: language}}\n", "p_clean"),
        (MIXTURE, "measures: {P_Clean: {measure: language}}\n", "P_Clean"),
        (
            "alignment_levels: {by: sharpness}",
            "measures: {alignment_level: {by: sharpness, low: 0, high: 1}}\n",
            "alignment_level",
        ),
    ],
)
def test_a_measure_may_not_write_what_a_filter_tags(
    filters: str, rest: str, column: str, pool: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=rf"'ledger' and .* both write '{column}': rename one"):
        plan_of(recipe(filters, rest), pool, tmp_path / "store")
    plan = plan_of(recipe("caption_words: 3", rest), pool, tmp_path / "store")
    assert column in plan.columns
    assert plan.tags == ()


def test_two_filters_may_state_p_clean_but_not_two_levels(pool: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe(f"{MIXTURE}\n  - {MIXTURE}"), pool, tmp_path / "store")
    assert plan.tags == ("p_clean",)
    levels = "alignment_levels: {by: sharpness}\n  - alignment_levels: {by: width}"
    said = (
        "filters alignment_levels and alignment_levels_2 both state 'alignment_level': leave one of them out"
    )
    with pytest.raises(RecipeError, match=said):
        plan_of(recipe(levels), pool, tmp_path / "store")


def test_weights_that_no_filter_states_are_refused_with_those_that_do(pool: Path, tmp_path: Path) -> None:
    rest = "output: {weights: p_clean}\n"
    with pytest.raises(RecipeError, match=r"no filter of the recipe states 'p_clean'; add .*drop_mismatched"):
        plan_of(recipe("caption_words: 3", rest), pool, tmp_path / "store")
    assert plan_of(recipe(MIXTURE, rest), pool, tmp_path / "store").tags == ("p_clean",)


def test_levels_of_a_score_that_nothing_writes_are_refused(pool: Path, tmp_path: Path) -> None:
    rest = "output: {alignment_levels: 8}\n"
    with pytest.raises(
        MissingSignal, match=r"alignment_levels reads 'clip_cosine'.*add to `measures`: `clip"
    ):
        plan_of(recipe("caption_words: 3", rest), pool, tmp_path / "store")
    plan = plan_of(recipe("caption_words: 3", CLIP + rest), pool, tmp_path / "store")
    assert [step.name for step in plan.recipe.steps] == ["caption_words", "alignment_levels"]


def test_the_plan_says_which_filters_only_tag(pool: Path, tmp_path: Path) -> None:
    both = "caption_words: {at_least: 3, only_tag: true}\n  - alignment_levels: {by: width}"
    rows = describe_steps(plan_of(recipe(both), pool, tmp_path / "store"))
    assert [row["kind"] for row in rows] == ["row, only tags", "fitted, only tags"]
    assert rows[0]["options"] == "only_tag=True, at_least=3"


# --- measures that filters bring


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """target.npy in the current folder, beside the recipe."""
    np.save(tmp_path / "target.npy", np.eye(3, 64, dtype=np.float32))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("target")
def test_a_target_brings_norm_sim_and_its_score_is_that_of_the_measure(pool: Path, tmp_path: Path) -> None:
    brought = plan_of(
        recipe("top_fraction: {by: norm_sim, keep: 0.5, target: target.npy}", CLIP), pool, tmp_path / "store"
    )
    listed = CLIP.replace("}}\n", "}, norm_sim: {target: target.npy}}\n")
    plain = plan_of(recipe("top_fraction: {by: norm_sim, keep: 0.5}", listed), pool, tmp_path / "store")
    assert brought.columns["norm_sim"][1] == plain.columns["norm_sim"][1]
    assert brought.recipe.public()["measures"]["norm_sim"]["target"] == str(tmp_path / "target.npy")
    parts = [shard.part for shard in brought.shards]
    assert brought.ledger_id(parts) == plain.ledger_id(parts)


@pytest.mark.usefixtures("target")
def test_a_target_that_is_not_there_is_refused_before_any_work(pool: Path, tmp_path: Path) -> None:
    text = recipe("top_fraction: {by: norm_sim, keep: 0.5, target: nowhere.npy}", CLIP)
    with pytest.raises(RecipeError, match=r"target: 'nowhere\.npy' does not exist"):
        plan_of(text, pool, tmp_path / "store")


def test_s_clip_loss_needs_no_line_of_measures(pool: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe("top_fraction: {by: s_clip_loss, keep: 0.3}", CLIP), pool, tmp_path / "store")
    assert [measure.name for measure in plan.collective] == ["s_clip_loss"]
    without = recipe("top_fraction: {by: s_clip_loss, keep: 0.3}")
    with pytest.raises(RecipeError, match="'s_clip_loss' compares the embeddings 'clip_image'"):
        plan_of(without, pool, tmp_path / "store")
