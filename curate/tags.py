"""What a recipe asks of the tags that its filters state; refused before any work where it can't be."""

from __future__ import annotations

from curate.recipe import Recipe
from filters.core.catalogue import filter_names, find_filter
from filters.core.errors import RecipeError
from filters.core.tags import TAGS, declared_tags


def check_tags(recipe: Recipe) -> None:
    """Raises RecipeError where filters state one tag that only one may state, or none a wanted one."""
    for tag in declared_tags(step.rule for step in recipe.steps):
        stating = [step.name for step in recipe.steps if tag in step.rule.tags]
        if len(stating) > 1 and not TAGS[tag].shared:
            msg = f"filters {' and '.join(stating)} both state {tag!r}: leave one of them out"
            raise RecipeError(msg)
    wanted = recipe.file.output.weights
    if wanted is not None and wanted not in declared_tags(step.rule for step in recipe.steps):
        able = [name for name in filter_names() if wanted in find_filter(name).tags]
        msg = (
            f"output.weights: no filter of the recipe states {wanted!r}; add {' or '.join(able)} "
            "(with `only_tag: true` it drops nothing), or leave weights out"
        )
        raise RecipeError(msg)
