"""YAML with line numbers: what a recipe's errors point at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from filters.core.errors import RecipeError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file.

    Attributes:
        name: how messages call it.
        content: plain Python values.
        lines: path of keys and list positions -> line, counted from 1.
    """

    name: str
    content: Any
    lines: dict[Path, int] = field(repr=False)

    def line(self, path: Path) -> int:
        """The line of this place, or of the nearest one around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse_yaml(text: str, name: str) -> Document:
    """The document.

    Raises: RecipeError where the text is no YAML, repeats a key, or grows without bound.
    """
    if len(text.encode()) > MAX_BYTES:
        msg = f"{name}: a recipe has at most {MAX_BYTES} bytes"
        raise RecipeError(msg)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Path, int] = {}
        content = _value(node, (), lines, name)
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(cause, "problem", None) or str(cause)
        msg = f"{name}{where}: not YAML: {problem}"
        raise RecipeError(msg) from cause
    except RecursionError as cause:
        msg = f"{name}: nested too deep"
        raise RecipeError(msg) from cause
    return Document(name, content, lines)


def _value(node: yaml.Node | None, path: Path, lines: dict[Path, int], name: str) -> Any:
    if node is None:
        return None
    lines[path] = node.start_mark.line + 1
    if len(lines) > MAX_NODES:
        msg = f"{name}: more than {MAX_NODES} values (aliases that multiply?)"
        raise RecipeError(msg)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, at), lines, name) for at, item in enumerate(node.value)]
    return _scalar(node, name)


def _scalar(node: yaml.Node, name: str) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as cause:  # such as the date 2024-13-01
        msg = f"{name}, line {node.start_mark.line + 1}: not a value: {cause}; put text in quotes"
        raise RecipeError(msg) from cause
    finally:
        loader.dispose()


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
            msg = f"{name}, line {line}: a key must be plain text"
            raise RecipeError(msg)
        if key in found:
            msg = f"{name}, line {line}: the key {key!r} stands here twice; keep one"
            raise RecipeError(msg)
        found[key] = _value(value_node, (*path, key), lines, name)
        lines[(*path, key)] = line
    return found
