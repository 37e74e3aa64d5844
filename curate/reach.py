"""What workers that run elsewhere must see: the store, the pool, and the files that a recipe names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curate.plan import Plan
from filters.core.errors import RunnerError
from transforms.encoders import LOCAL_DIR
from transforms.store import Store

SECRET = re.compile(r"key|secret|token|passw|credential|sas|connection_string", re.IGNORECASE)
# Values that name where credentials are, and are none.
NO_SECRETS = ("anon", "cloud", "google_default", "cache", "browser")
SHOWN = 5


def check_reach(runner: str, plan: Plan, *, shared: bool, files: bool | None = None) -> None:
    """Raises RunnerError where the workers could not see what they must read or write.

    shared: whether local paths lead them to the same files as this machine; files: the same of
    the files alone that the recipe names, where that differs.
    """
    local: list[str] = []
    if not shared:
        local += [f"the store {plan.store.folder.url!r}"] if plan.store.folder.local else []
        local += [f"the shard {shard.uri!r}" for shard in plan.shards if "://" not in shard.uri]
    if not (shared if files is None else files):
        local += [f"{what} {path!r}" for what, path in _files(plan)]
    if local:
        more = f" and {len(local) - SHOWN} more" if len(local) > SHOWN else ""
        option = "shared_files" if files is None else "files_in_image"
        msg = (
            f"runner {runner}: its workers run elsewhere and can't see {', '.join(local[:SHOWN])}{more}: "
            f"use URLs; of files that a recipe names, see the option {option}"
        )
        raise RunnerError(msg)
    relative = [f"{what} {path!r}" for what, path in _files(plan) if not Path(path).is_absolute()]
    if relative:
        msg = (
            f"runner {runner}: its workers run in another folder, where {', '.join(relative[:SHOWN])} "
            "leads nowhere: write absolute paths, or name the recipe by its absolute path"
        )
        raise RunnerError(msg)


def check_secrets(runner: str, plan: Plan) -> None:
    """Raises RunnerError where storage options hold credentials, which would be stored with the job."""
    shards = plan.shards[0].options if plan.shards else {}
    for what, options in (("store", plan.store.folder.options), ("pool", shards)):
        for name in _secrets(options):
            msg = (
                f"runner {runner}: the {what}'s storage option {name!r} would be stored with the job, where "
                "others can read it: give the workers an identity of their own (service account, role)"
            )
            raise RunnerError(msg)


def with_absolute_store(plan: Plan) -> Plan:
    """The plan with the full path of a local store, which leads there from any folder."""
    folder = plan.store.folder
    if not folder.local:
        return plan
    return replace(plan, store=Store.at(folder.root, folder.options))


def _files(plan: Plan) -> Iterator[tuple[str, str]]:
    """What names a local file or folder, and its path: models, checkpoints, vocabularies, references."""
    named: list[tuple[str, BaseModel]] = [(f"{item.name}'s", item.options) for item in plan.recipe.measures]
    named += [(f"{step.name}'s", step.rule) for step in plan.recipe.steps]
    for owner, options in named:
        for key, value in options.model_dump(mode="json").items():
            for text in _texts(value):
                path = text.removeprefix(LOCAL_DIR)
                if _is_local(path, said=text != path):
                    yield f"{owner} {key}", path


def _is_local(text: str, *, said: bool) -> bool:
    """True for a path of this machine; said: whether the option says that it is one."""
    if not text or "://" in text or "\n" in text or len(text) > 4096:
        return False
    if said or Path(text).is_absolute():
        return True
    fixed = re.split(r"[*?\[{]", text)[0]  # what comes before the signs of a pattern
    if fixed != text:
        return "/" in fixed and Path(fixed).parent.is_dir()
    return Path(text).suffix != "" and Path(text).is_file()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """The names of options that hold credentials, also further down."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif value and SECRET.search(str(name)) and value not in NO_SECRETS:
            yield str(name)
