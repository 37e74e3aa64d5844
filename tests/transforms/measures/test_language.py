"""Languages by built-in detectors and by plug-ins that are installed."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import transforms.language_detectors
from filters.core.errors import ModelError, RecipeError
from tests.transforms.reading import named
from transforms.language_detectors import load_detector
from transforms.measure import DerivedMeasure


@pytest.fixture(autouse=True)
def _nothing_is_loaded() -> Iterator[None]:
    transforms.language_detectors._load_detector.cache_clear()
    yield
    transforms.language_detectors._load_detector.cache_clear()


def derive(captions: list[str | None], **options: Any) -> dict[str, list[Any]]:
    measure = named("language", "lang", **options).options
    assert isinstance(measure, DerivedMeasure)
    measure.check()
    found = measure.derive("lang", {"caption": pa.array(captions, pa.string())}, None)
    return {name: column.to_pylist() for name, column in found.items()}


def test_langid_knows_common_languages() -> None:
    captions = [
        "a photograph of a brown dog in the park",
        "ein Foto von einem braunen Hund im Park",
        "une photographie d'un chien brun dans le parc",
        "公園にいる茶色い犬の写真です",
    ]
    found = derive([*captions, None, "line\nbreaks are spaces in this caption"])
    assert found["lang"] == ["en", "de", "fr", "ja", None, "en"]
    assert found["lang_probability"][4] is None
    assert all(0.5 < value <= 1 for value in found["lang_probability"][:4])
    assert derive([None]) == {"lang": [None], "lang_probability": [None]}
    assert derive([]) == {"lang": [], "lang_probability": []}


def test_a_detector_is_loaded_once() -> None:
    assert load_detector("langid", None) is load_detector("langid", None)


PLUG_IN = """
def make(model):
    made.append(model)
    return lambda captions: [("xx" if model is None else "yy", 0.25) for _ in captions]
made = []
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A distribution on the path that brings the detector "shouting"."""
    (tmp_path / "curate_shouting_plugin.py").write_text(PLUG_IN)
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[curate.language_detectors]\nshouting = curate_shouting_plugin:make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "shouting"


def test_an_installed_plug_in_is_found_by_its_name(plug_in: str, tmp_path: Path) -> None:
    assert derive(["a", None], detector=plug_in) == {"lang": ["xx", None], "lang_probability": [0.25, None]}
    model = tmp_path / "model.bin"
    model.write_bytes(b"1")
    assert derive(["a"], detector=plug_in, model=str(model))["lang"] == ["yy"]
    derive(["b"], detector=plug_in)
    assert sys.modules["curate_shouting_plugin"].made == [None, str(model)]


def test_an_unknown_detector_names_what_is_installed(plug_in: str) -> None:
    del plug_in
    with pytest.raises(RecipeError, match=r"unknown language detector 'shoutin'; did you mean shouting\?"):
        derive([], detector="shoutin")
    with pytest.raises(
        RecipeError, match="unknown language detector 'q'; known: cld3, fasttext, langid, shouting"
    ):
        derive([], detector="q")


def test_fasttext_needs_a_model() -> None:
    with pytest.raises(
        RecipeError, match="the fasttext detector needs a model file: set `model: /path/to/lid"
    ):
        derive(["a"], detector="fasttext")


@pytest.mark.parametrize(("detector", "package"), [("fasttext", "fasttext"), ("cld3", "gcld3")])
def test_a_package_that_is_not_installed_is_named(
    detector: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "lid.bin").write_bytes(b"")
    with pytest.raises(
        RecipeError, match=f"'{detector}' needs the package {package}, which is not installed"
    ):
        derive(["a"], detector=detector, model=str(tmp_path / "lid.bin"))


class FakeFastText(types.ModuleType):
    """Answers as the fastText package does."""

    asked: list[str]

    def load_model(self, path: str) -> Any:
        if Path(path).read_bytes() == b"broken":
            raise ValueError("has wrong file format!")  # noqa: TRY003  (as the package does)
        return self

    def predict(self, caption: str) -> tuple[tuple[str, ...], list[float]]:
        self.asked.append(caption)
        return (("__label__en",), [0.75]) if caption else ((), [])


def test_fasttext_takes_the_top_label_without_line_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeFastText("fasttext")
    fake.asked = []
    monkeypatch.setitem(sys.modules, "fasttext", fake)
    (tmp_path / "lid.bin").write_bytes(b"1")
    found = derive(["two\nlines", ""], detector="fasttext", model=str(tmp_path / "lid.bin"))
    assert found == {"lang": ["en", "und"], "lang_probability": [0.75, 0.0]}
    assert fake.asked == ["two lines", ""]
    (tmp_path / "bad.bin").write_bytes(b"broken")
    with pytest.raises(
        ModelError, match=r"can't load the fastText model .*bad\.bin': has wrong file format!"
    ):
        derive(["a"], detector="fasttext", model=str(tmp_path / "bad.bin"))


def test_a_model_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"language model 'nowhere\.bin' does not exist"):
        named("language", model="nowhere.bin").options.check()


def test_detector_and_model_content_are_part_of_the_name(tmp_path: Path) -> None:
    one, two, same = (tmp_path / name for name in ("one.bin", "two.bin", "same.bin"))
    for path, content in ((one, b"1"), (two, b"2"), (same, b"1")):
        path.write_bytes(content)
    folders = [named("language", model=str(path)).folder for path in (one, two, same)]
    assert folders[0] == folders[2] != folders[1]
    assert len({*folders, named("language").folder, named("language", detector="cld3").folder}) == 4
