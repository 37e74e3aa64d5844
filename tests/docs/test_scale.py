"""The estimate for 12.8 billion pairs is what benchmarks/RESULTS.md gives, and follows its unit costs."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from transforms.pool import Shard

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("scale", ROOT / "docs" / "scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["scale"]


@pytest.fixture
def units(scale: ModuleType) -> Any:
    return scale.read_units(RESULTS.read_text())


def test_the_page_is_what_the_results_give(scale: ModuleType, units: Any) -> None:
    assert (ROOT / "docs" / "scale.md").read_text() == scale.page(units), "stale: run `python docs/scale.py`"


def test_a_missing_section_or_line_is_named(scale: ModuleType) -> None:
    text = RESULTS.read_text()
    with pytest.raises(ValueError, match="no section relate: run `python -m benchmarks relate`"):
        scale.read_units(text.replace("## relate", "## other"))
    with pytest.raises(ValueError, match="section overlap, has no line 'balanced'"):
        scale.read_units(text.replace("| balanced |", "| even |"))


def test_the_slower_of_decoding_and_model_limits(scale: ModuleType, units: Any) -> None:
    few = scale.rate(units, "H100", "ViT-B-32", vcpus=1)
    many = scale.rate(units, "H100", "ViT-B-32", vcpus=100_000)
    assert (few.limit, many.limit) == ("decoding", "the GPU")
    assert few.samples_per_hour == pytest.approx(3600 * units.decoded * scale.CORE_PER_VCPU)
    assert many.samples_per_hour == pytest.approx(3600 * 989e12 * scale.REACHED / 14.8e9)


def test_the_estimate_follows_rows_and_units(scale: ModuleType, units: Any) -> None:
    whole, half = (scale.estimate(units, samples) for samples in (12_800_000_000, 6_400_000_000))
    assert (whole.shards, half.shards) == (1_280_000, 640_000)
    for name in ("shuffle_bytes", "metadata_bytes", "embedding_bytes", "files"):
        assert getattr(whole, name) == pytest.approx(2 * getattr(half, name))
    assert whole.stages["decide"] == pytest.approx(12.8e9 / units.decided / 3600 / scale.REDUCERS)
    # Twice the rows in clusters that grow with their root.
    assert 2 * half.stages["near duplicates: compare"] < whole.stages["near duplicates: compare"]
    slow = scale.estimate(dataclasses.replace(units, decided=1.0, with_top=0.9))
    assert slow.slowest == "decide"


def test_a_descriptor_has_the_size_that_is_multiplied(scale: ModuleType) -> None:
    shards = [
        Shard(f"gs://some-bucket/crawl/{n:08d}.tar", n, f"{n:08d}-abcdef01", "webdataset", 300_000_000)
        for n in range(101)
    ]
    more = len(pickle.dumps(shards)) - len(pickle.dumps(shards[:1]))
    assert more / 100 == pytest.approx(scale.TASK_BYTES, rel=0.2)


def test_one_sample_is_one_shard(scale: ModuleType, units: Any) -> None:
    assert scale.estimate(units, 1).shards == 1


def test_prices_fill_the_last_column(
    scale: ModuleType, units: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scale.main(["--price", "L4=0.70"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("| L4 ") and "ViT-B-32" in line)
    dollars = 0.70 * 1e9 / scale.rate(units, "L4", "ViT-B-32").samples_per_hour
    assert line.endswith(f"| {dollars:,.0f} |")
    assert next(line for line in lines if line.startswith("| H100 ")).endswith("| - |")


@pytest.mark.parametrize(
    ("price", "said"),
    [("T4=1", "no GPU T4; there are L4"), ("L4", "a number of dollars"), ("L4=x", "number")],
)
def test_a_wrong_price_is_refused(
    price: str, said: str, scale: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scale.main(["--price", price])
    assert said in capsys.readouterr().err
