"""What is wrong with a recipe is said with file, line, key, value and fix, all at once."""

from __future__ import annotations

import re

import pytest

from curate.recipe import load_recipe, parse_recipe
from curate.report.page import recipe_text
from filters.core.errors import RecipeError


def complaint(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "mine.yaml")
    return str(caught.value)


def test_a_good_recipe_is_read() -> None:
    recipe = parse_recipe("name: fine\nfilters:\n  - min_side_pixels: 200\n  - caption_words: 3\n")
    assert [step.name for step in recipe.steps] == ["min_side_pixels", "caption_words"]


def test_output_asks_for_levels_as_a_filter_would() -> None:
    asked = parse_recipe("name: a\nfilters: [caption_words: 3]\noutput: {alignment_levels: 5}\n")
    listed = parse_recipe("name: a\nfilters: [caption_words: 3, alignment_levels: 5]\n")
    assert asked.steps == listed.steps
    both = "name: a\nfilters: [alignment_levels: {levels: 5, by: dfn_cosine}, caption_words: 3]\n"
    agreeing = parse_recipe(both + "output: {alignment_levels: 5}\n")
    assert agreeing.steps == parse_recipe(both).steps


def test_a_recipe_that_ran_can_be_read_again() -> None:
    """What a filter or the output added stands there as well, and is not added twice."""
    text = (
        "name: a\nfilters:\n  - top_fraction: {by: norm_sim, keep: 0.5, target: a.npy}\n"
        "output: {alignment_levels: 5}\n"
    )
    ran = parse_recipe(text)
    again = parse_recipe(recipe_text({"recipe": ran.public()}))
    assert again.steps == ran.steps
    assert again.measures == ran.measures


BY_B = "top_fraction: {by: norm_sim, keep: 0.5, target: b.npy}\n"
# Each: the recipe; the line; the key's path; what the message must also say (value, fix).
CASES = {
    "unknown top-level key": (
        "name: a\nfilter:\n  - caption_words: 3\nfilters: []\n",
        (2, "filter", "unknown key 'filter'", "did you mean filters?"),
    ),
    "unknown key of a section": (
        "name: a\nfilters: []\noutput:\n  shard: true\n",
        (4, "output.shard", "unknown key 'shard'", "did you mean shards"),
    ),
    "unknown key of a nested section": (
        "name: a\nfilters: []\npool:\n  columns:\n    images: [jpg]\n",
        (5, "pool.columns.images", "unknown key 'images'", "did you mean image"),
    ),
    "misspelt filter": (
        "name: a\nfilters:\n  - min_side_pixel: 200\n",
        (3, "filters[0].min_side_pixel", "unknown filter 'min_side_pixel'", "did you mean min_side_pixels"),
    ),
    "filter like no other": (
        "name: a\nfilters:\n  - xyzzy: 200\n",
        (3, "filters[0].xyzzy", "unknown filter 'xyzzy'", "known: alignment_levels, "),
    ),
    "misspelt option": (
        "name: a\nfilters:\n  - caption_words: {atleast: 3}\n",
        (3, "filters[0].caption_words.atleast", "unknown key 'atleast'", "did you mean at_least"),
    ),
    "wrong type": (
        "name: a\nfilters:\n  - caption_words: 3\n  - min_side_pixels: many\n",
        (4, "filters[1].min_side_pixels.at_least", "'many'", "Pixels of the shorter side"),
    ),
    "out of range": (
        "name: a\nfilters:\n  - min_clip_cosine: 28\n",
        (3, "filters[0].min_clip_cosine.at_least", "28: ", "less than or equal to 1"),
    ),
    "not a number at all": (
        "name: a\nfilters:\n  - min_clip_cosine: .nan\n",
        (3, "filters[0].min_clip_cosine.at_least", "nan: ", "Cosine, inclusive."),
    ),
    "fraction out of range": (
        "name: a\nfilters: []\nmax_failed_fraction: 1.5\n",
        (3, "max_failed_fraction", "1.5: ", "less than or equal to 1"),
    ),
    "missing option": (
        "name: a\nfilters:\n  - min_head_score: {at_least: 5}\n",
        (3, "filters[0].min_head_score.head", "is required", "add `head: …`"),
    ),
    "missing option of a bare filter": (
        "name: a\nfilters:\n  - min_side_pixels\n",
        (3, "filters[0].min_side_pixels.at_least", "is required", "add `at_least: …`"),
    ),
    "missing section": ("name: a\n", (1, "filters", "is required", "add `filters: …`")),
    "value that says too little": (
        "name: a\nfilters:\n  - top_fraction: 0.3\n",
        (3, "filters[0].top_fraction", "0.3 alone does not say enough", "`- top_fraction: {by: …}`"),
    ),
    "bounds that cross": (
        "name: a\nfilters:\n  - caption_words: {at_least: 9, at_most: 4}\n",
        (3, "filters[0].caption_words", "at_least 9 is above at_most 4", "fix: "),
    ),
    "no bound": (
        "name: a\nfilters:\n  - caption_words: {}\n",
        (3, "filters[0].caption_words", "give at_least, at_most or both", "fix: "),
    ),
    "filter with two keys": (
        "name: a\nfilters:\n  - caption_words: 3\n    min_side_pixels: 200\n",
        (3, "filters[0]", "a filter is one name with its options", "write `- min_side_pixels: 200`"),
    ),
    "filter that is a number": (
        "name: a\nfilters:\n  - 200\n",
        (3, "filters[0]", "a filter is one name with its options", "write `- min_side_pixels: 200`"),
    ),
    "filters that are no list": (
        "name: a\nfilters:\n  caption_words: 3\n",
        (2, "filters", "valid list", "In order"),
    ),
    "unknown measure": (
        "name: a\nmeasures:\n  clips: {model: x}\nfilters: []\n",
        (3, "measures.clips", "unknown measure 'clips'", "did you mean clip"),
    ),
    "unknown kind of measure": (
        "name: a\nmeasures:\n  mine: {measure: klip}\nfilters: []\n",
        (3, "measures.mine", "unknown measure 'klip'", "did you mean clip"),
    ),
    "measure name that names no column": (
        "name: a\nmeasures:\n  my-clip: {measure: clip, model: x}\nfilters: []\n",
        (3, "measures.my-clip", "measure name 'my-clip'", "A-Z, a-z, 0-9 and _"),
    ),
    "measure without its option": (
        "name: a\nmeasures:\n  clip: {pretrained: openai}\nfilters: []\n",
        (3, "measures.clip.model", "is required", "add `model: …`"),
    ),
    "option of a measure under its recipe name": (
        "name: a\nfilters: []\nmeasures:\n  h:\n    measure: score_head\n    checkpoint: x\n    encoder: [1]",
        (7, "measures.h.encoder", "'[1]'", "The CLIP measure whose embeddings"),
    ),
    "misspelt option of a measure": (
        "name: a\nmeasures:\n  head: {measure: score_head, checkpoint: x, encoders: clip}\nfilters: []\n",
        (3, "measures.head.encoders", "unknown key 'encoders'", "did you mean encoder?"),
    ),
    "a target that the recipe gives otherwise": (
        "name: a\nmeasures: {norm_sim: {target: a.npy}}\nfilters:\n  - " + BY_B,
        (
            4,
            "filters[0]",
            "it measures 'norm_sim' with target 'b.npy', the recipe otherwise",
            "leave target out",
        ),
    ),
    "two targets of one name": (
        "name: a\nfilters:\n  - " + BY_B.replace("b.npy", "a.npy") + "  - " + BY_B,
        (4, "filters[1]", "it measures 'norm_sim' with target 'b.npy'", "a name of its own"),
    ),
    "a target for a measure of another kind": (
        "name: a\nmeasures: {norm_sim: {measure: language}}\nfilters:\n  - " + BY_B,
        (4, "filters[0]", "it measures 'norm_sim' with target 'b.npy', the recipe otherwise", "fix: "),
    ),
    "levels of the output that a filter has otherwise": (
        "name: a\nfilters:\n  - alignment_levels: 5\noutput: {alignment_levels: 8}\n",
        (
            4,
            "output.alignment_levels",
            "alignment_levels has another number of levels",
            "leave one of them out",
        ),
    ),
    "too many levels": (
        "name: a\nfilters: []\noutput: {alignment_levels: 128}\n",
        (3, "output.alignment_levels", "128: ", "at most 127"),
    ),
    "weights of another name": (
        "name: a\nfilters: []\noutput: {weights: clip_cosine}\n",
        (3, "output.weights", "'clip_cosine': ", "p_clean"),
    ),
    "measures that are no mapping": (
        "name: a\nmeasures: [clip]\nfilters: []\n",
        (2, "measures", "valid dictionary", "Measure name -> options"),
    ),
    "pool address of a wrong type": (
        "name: a\npool:\n  uri: 17\nfilters: []\n",
        (3, "pool.uri", "17: ", "Paths, globs"),
    ),
    "bad recipe name": (
        "name: My Recipe\nfilters: []\n",
        (1, "name", "'My Recipe'", "a-z, 0-9, _ and -"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_problem_is_named_with_line_key_value_and_fix(case: str) -> None:
    text, (line, key, *said) = CASES[case]
    message = complaint(text)
    assert message.startswith(f"mine.yaml, line {line}: {key}: "), message
    assert "\n  fix: " in message
    for words in said:
        assert words in message


def test_several_problems_are_told_at_once_in_the_order_of_lines() -> None:
    message = complaint(
        "nam: a\n"
        "measures:\n  clip: {pretrained: openai}\n"
        "filters:\n  - min_side_pixel: 200\n  - caption_words: {at_least: -1}\n"
        "output: {samples_per_shard: 0}\n"
    )
    lines = [int(number) for number in re.findall(r"mine\.yaml, line (\d+)", message)]
    assert lines == [1, 1, 3, 5, 6, 7]
    assert message.count("fix: ") == 6


def test_one_problem_is_told_once() -> None:
    assert complaint("name: a\npool: {uri: 17}\nfilters: []\n").count("pool.uri") <= 2


# Each: text that is no recipe at all; what the message says.
NOT_A_RECIPE = {
    "syntax": ("name: a\nfilters: [\n", r"mine\.yaml, line \d: not YAML: "),
    "tab": ("name: a\n\tfilters: []\n", r"mine\.yaml, line 2: not YAML: "),
    "python object": (
        "name: !!python/name:os.system x\nfilters: []\n",
        r"line 1: not YAML: could not determine a constructor",
    ),
    "two documents": ("name: a\n---\nname: b\n", r"line 2: not YAML: "),
    "control character": ("name: a\x00b\n", r"mine\.yaml: not YAML: "),
    "date that is none": ("name: 2024-13-41\nfilters: []\n", r"line 1: not a value: .*put text in quotes"),
    "list": ("- name: a\n", r"line 1: recipe: a recipe is a mapping\n  fix: begin with `name:`"),
    "empty": ("", r"line 1: recipe: a recipe is a mapping"),
    "text": ("just text", r"line 1: recipe: a recipe is a mapping"),
    "key that is a list": ("? [a, b]\n: 1\n", r"line 1: a key must be plain text"),
    "merge key": ("base: &b {name: a}\n<<: *b\n", r"line 2: a key must be plain text"),
    "same key twice": (
        "name: a\nfilters: []\noutput:\n  shards: true\n  shards: false\n",
        r"line 5: the key 'shards' stands here twice; keep one",
    ),
}


@pytest.mark.parametrize("case", NOT_A_RECIPE)
def test_text_that_is_no_recipe_is_refused_with_its_place(case: str) -> None:
    text, pattern = NOT_A_RECIPE[case]
    assert re.search(pattern, complaint(text))


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases that multiply?" in complaint("\n".join(lines))


def test_an_alias_of_itself_is_stopped() -> None:
    assert "nested too deep" in complaint("name: &a [*a]\n")


def test_endless_nesting_is_stopped() -> None:
    assert "nested too deep" in complaint("name: " + "[" * 5000)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    assert "at most 1048576 bytes" in complaint("#" * (1 << 20) + "\nname: a\n")


@pytest.mark.parametrize(
    "text",
    [
        "name: a\npool: {storage_options: hunter2}\nfilters: []\n",
        "name: a\npool: {storage_options: [hunter2]}\nfilters: []\n",
        "name: a\npool: {storage_option: {secret: hunter2}}\nfilters: []\n",
        "name: a\noutput: {storage_options: hunter2}\nfilters: []\n",
        "name: a\nstorage_options: {secret: hunter2}\nfilters: []\n",
        "name: a\npool:\n  storage_options: {secret: hunter2, secret: hunter2}\nfilters: []\n",
        "name: a\npool:\n  storage_options: {secret: hunter2\nfilters: []\n",
    ],
)
def test_a_secret_is_in_no_message(text: str) -> None:
    assert "hunter2" not in complaint(text)


def test_a_secret_is_in_no_repr_and_not_in_the_public_recipe() -> None:
    recipe = parse_recipe(
        "name: a\n"
        "pool:\n"
        "  uri: 's3://user:hunter2@bucket/x.tar?signature=hunter2'\n"
        "  storage_options: {secret: hunter2}\n"
        "output: {storage_options: {key: hunter2}}\n"
        "filters: []\n"
    )
    assert "hunter2" not in repr(recipe)
    assert "hunter2" not in str(recipe.public())
    assert recipe.public()["pool"]["uri"] == ["s3://bucket/x.tar"]
    assert recipe.file.pool.storage_options == {"secret": "hunter2"}


def test_an_unknown_recipe_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean basic_filter"):
        load_recipe("basic_filters")
