"""What comparing survivors will read, before any work: for this pool, and for 12.8 billion samples."""

from __future__ import annotations

from dataclasses import dataclass

from curate.plan import Plan
from filters.core.errors import RecipeError
from transforms.exchange import ExchangePlan
from transforms.hamming_tables import COMPARE_SECONDS
from transforms.relating import relation_class

# DataComp's xlarge pool, in shards of ten thousand.
LARGEST_ROWS, LARGEST_PARTS = 12_800_000_000, 1_280_000
USUAL_WIDTH = 512  # of embeddings that are not measured yet
MOST_MARKERS = 2000  # read to count the rows of this pool
# A ranged read of an object store, in US dollars: 0.40 for a million on the large clouds.
READ_DOLLARS = 0.4e-6


@dataclass(frozen=True)
class Forecast:
    """One comparison over so many samples."""

    filter: str
    samples: int
    exchange: ExchangePlan

    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        plan = self.exchange
        work = ""
        if plan.comparisons is not None:
            hours = plan.comparisons * COMPARE_SECONDS / 3600
            work = f"{plan.comparisons:.1e} pairs, {hours:,.1f} core hours"
            work += ": refused" if plan.refused else ""
        return (
            self.filter,
            f"{self.samples:,}",
            _bytes(plan.rows * plan.record_bytes),
            f"{plan.lots:,} x {plan.blocks:,}",
            f"{plan.reads:,} of {_bytes(plan.range_bytes)}",
            f"{plan.reads * READ_DOLLARS:.2f}",
            work,
        )


def refuse_quadratic(filter_name: str, samples: int, exchange: ExchangePlan | None) -> None:
    """Raises RecipeError where a comparison over so many samples is too much work."""
    if exchange is not None and exchange.refused:
        msg = (
            f"filter {filter_name} would compare about {exchange.comparisons:.1e} pairs among {samples:,} "
            f"samples: {exchange.instead}"
        )
        raise RecipeError(msg)


def forecasts(plan: Plan, workers: int = 1) -> list[Forecast]:
    """Every comparison of the recipe that brings rows together; this pool only where it is measured."""
    rows = _rows(plan)
    found = []
    for step in plan.recipe.steps:
        if step.rule.relation is None:
            continue
        relation = relation_class(step.rule.relation)
        width = max([_width(plan, name) for name in step.rule.embeddings()], default=0)
        sizes = [(LARGEST_ROWS, LARGEST_PARTS, 1000)]
        if rows is not None:
            sizes.insert(0, (rows, len(plan.shards), workers))
        for samples, parts, hands in sizes:
            exchange = relation.forecast(step.rule, samples, parts, hands, width)
            if exchange is not None:
                found.append(Forecast(step.name, samples, exchange))
    return found


def _rows(plan: Plan) -> int | None:
    """The pool's samples, where all shards are measured and counting them is quick."""
    if len(plan.shards) > MOST_MARKERS or any("samples" in names for names in plan.lacking.values()):
        return None
    markers = [plan.store.done(plan.samples.group, shard.part) for shard in plan.shards]
    return sum(int(marker["rows"]) for marker in markers if marker is not None)


def _width(plan: Plan, embedding: str) -> int:
    """How wide the embeddings are, from a part that is measured."""
    folder = plan.embeddings[embedding]
    names = [name for name in plan.store.folder.names(folder) if name.endswith(".npy")]
    for name in names[:1]:
        return int(plan.store.read_array(f"{folder}/{name}").shape[1]) or USUAL_WIDTH
    return USUAL_WIDTH


def _bytes(count: float) -> str:
    size, unit = count, "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, bigger
    return f"{size:.3g} {unit}"
