"""Language detectors by name; a plug-in adds its own through an entry point.

Built in:
* `langid`: py3langid (BSD), about 70 000 captions a second and core; works offline and needs
  nothing. It knows 140 languages but chooses among the `WEB_LANGUAGES` only: with the rare ones,
  short English captions turn into Sotho or Walloon.
* `fasttext`: a fastText model file that you have, such as DataComp's `lid.176.bin`; needs
  `pip install curate[fasttext]`.
* `cld3`: Google's CLD3, as in LAION-2B's recipe; needs the package `gcld3`.

Others: an entry point in the group `curate.language_detectors` whose object is called with the
model path (or None) and returns a Detector. A recipe can only name what is installed: it never
names code to import.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from filters.core.catalogue import nearest
from filters.core.errors import ModelError, RecipeError
from transforms.fingerprints import weights_fingerprint

WEB_LANGUAGES = [
    *("ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu", "he"),
    *("hi", "hr", "hu", "id", "it", "ja", "ka", "kk", "ko", "lt", "lv", "mk", "ml", "mr", "ms", "nl"),
    *("no", "pl", "pt", "ro", "ru", "sk", "sl", "sq", "sr", "sv", "ta", "te", "th", "tl", "tr", "uk"),
    *("ur", "vi", "zh"),
]
GROUP = "curate.language_detectors"


class Detector(Protocol):
    """Says the language of captions."""

    def __call__(self, captions: Sequence[str]) -> list[tuple[str, float]]:
        """ISO 639-1 code and probability (0..1) for each caption."""


Factory: TypeAlias = "Callable[[str | None], Detector]"


def langid(model: str | None) -> Detector:
    """py3langid with normalised probabilities; `model` is a model file of its own format."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415  (lazy: 0.3 s)

    identifier = LanguageIdentifier.from_model_file(model or MODEL_FILE, norm_probs=True)
    if model is None:
        identifier.set_languages(WEB_LANGUAGES)

    def detect(captions: Sequence[str]) -> list[tuple[str, float]]:
        found = (identifier.classify(caption.replace("\n", " ")) for caption in captions)
        return [(str(code), float(probability)) for code, probability in found]

    return detect


def fasttext(model: str | None) -> Detector:
    """A fastText classifier; line breaks become spaces and the top label counts, as in DataComp."""
    if model is None:
        msg = "the fasttext detector needs a model file: set `model: /path/to/lid.176.bin`"
        raise RecipeError(msg)
    try:
        loaded: Any = _module("fasttext", "fasttext").load_model(model)
    except (ValueError, OSError) as cause:
        msg = f"can't load the fastText model {model!r}: {cause}"
        raise ModelError(msg) from cause

    def detect(captions: Sequence[str]) -> list[tuple[str, float]]:
        answers = (loaded.predict(caption.replace("\n", " ")) for caption in captions)
        return [
            (labels[0].removeprefix("__label__"), float(probabilities[0])) if len(labels) else ("und", 0.0)
            for labels, probabilities in answers
        ]

    return detect


def cld3(model: str | None) -> Detector:  # noqa: ARG001  (CLD3 brings its own)
    """CLD3 with LAION-2B's limits: 0 to 1000 bytes."""
    identifier = _module("gcld3", "cld3").NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)

    def detect(captions: Sequence[str]) -> list[tuple[str, float]]:
        answers = (identifier.FindLanguage(caption.replace("\n", " ")) for caption in captions)
        return [(answer.language, float(answer.probability)) for answer in answers]

    return detect


BUILT_IN: dict[str, Factory] = {"langid": langid, "fasttext": fasttext, "cld3": cld3}


def find_detector(name: str) -> Factory:
    """The detector's factory.

    Raises: RecipeError for an unknown name, with those that are installed.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    installed = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if name not in installed:
        msg = f"unknown language detector {name!r}; {nearest(name, [*BUILT_IN, *installed])}"
        raise RecipeError(msg)
    factory: Factory = installed[name].load()
    return factory


def load_detector(name: str, model: str | None) -> Detector:
    """The detector, loaded once per process: a fastText model takes a second and 130 MB.

    Raises: RecipeError or ModelError where it can't be had.
    """
    return _load_detector(name, model, weights_fingerprint(Path(model)) if model else "")


@lru_cache(maxsize=4)
def _load_detector(name: str, model: str | None, weights: str) -> Detector:  # noqa: ARG001  (the cache's key)
    return find_detector(name)(model)


def _module(package: str, detector: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as cause:
        msg = f"the language detector {detector!r} needs the package {package}, which is not installed"
        raise RecipeError(msg) from cause
