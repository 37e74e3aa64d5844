"""What models learn from the output of recipes, from as many random samples, and from the whole pool.

`python -m benchmarks.end_effect [FOLDER]` makes two pools of the demo's world: the demo's own with all
its defects, and one of which a third has a wrong caption; runs recipes on them and evaluates each
decision with three seeds. What was trained is not trained again: about an hour on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from curate.commands import evaluate_command, execute
from curate.demo.pool import write_pool
from curate.evaluate.held_out import DEMO
from curate.evaluate.settings import Settings
from curate.plan import make_plan
from curate.recipe import Recipe, load_recipe, packaged_recipes, parse_recipe
from curate.run import RunOptions
from transforms.store import Store

SAMPLES = 4000
WRONG_CAPTIONS = ("mismatched_caption", "hard_mismatch")
WRONG_TIMES = 3.2  # a third of the pool
FILTERS = {
    "best_half": "top_fraction: {by: clip_cosine, keep: 0.5, of: pool}",
    "best_30_percent": "top_fraction: {by: clip_cosine, keep: 0.3, of: pool}",
    "two_groups": "drop_mismatched: {p_clean_below: 0.5}",
}


def recipes() -> dict[str, list[Recipe]]:
    """The recipes of each pool."""
    demo = load_recipe("demo")
    beside = packaged_recipes()["demo"].parent
    clip = "measures:\n  clip: {model: 'local-dir:../demo/model'}\n"
    noisy = [
        parse_recipe(f"name: {name}\n{clip}filters:\n  - {rule}\noutput: {{report: false}}\n", name, beside)
        for name, rule in FILTERS.items()
    ]
    return {"defects": [demo], "wrong-captions": noisy}


def make_pool(folder: Path, name: str) -> str:
    """Its shards, made where they are missing."""
    if not (folder / "truth.csv").exists():
        wrong = name == "wrong-captions"
        if wrong:
            write_pool(folder, samples=SAMPLES, defects=WRONG_CAPTIONS, times=WRONG_TIMES)
        else:
            write_pool(folder, samples=SAMPLES)
    return str(folder / "shards" / "*.tar")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/end-effect")
    out = Console(highlight=False)
    for name, chosen in recipes().items():
        pool, store = make_pool(folder / name, name), Store.at(str(folder / f"{name}-store"))
        for recipe in chosen:
            result = execute(make_plan(recipe, [pool], store), RunOptions())
            out.print(f"\n[bold]{name}: {recipe.name}[/]  {result.counts}\n")
            evaluate_command(store, result.ledger, ((DEMO,), None), Settings(), {})


if __name__ == "__main__":
    main()
