"""The command line as a tree: `--sampler GHVB --sampler.order 3.8` over a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from .spelling import UsageError, did_you_mean

__all__ = ["gather", "merge", "preset_names", "read_config", "split"]


def preset_names() -> list[str]:
    """The presets that ship with Sfumato."""
    return sorted(
        p.name.removesuffix(".yaml") for p in resources.files("sfumato.configs").iterdir() if p.name.endswith(".yaml")
    )


def read_config(name: str) -> dict[str, Any]:
    """A preset by name, or a YAML file by path.

    Raises:
        UsageError: when there is neither, or the file is not a YAML mapping.
    """
    path = Path(name)
    if path.is_file():
        try:
            text = path.read_text()
        except (UnicodeDecodeError, OSError) as error:
            raise UsageError([f"{name} can't be read as a config: {error}"]) from error
    elif name in preset_names():
        text = resources.files("sfumato.configs").joinpath(f"{name}.yaml").read_text()
    else:
        raise UsageError(
            [
                f"{name}: no such file, run folder or preset; presets: {', '.join(preset_names())}{did_you_mean(name, preset_names())}"
            ]
        )
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError([f"{name} is not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(tree, dict):
        raise UsageError([f"{name} is not a config: it {'is empty' if tree is None else 'holds no keys and values'}"])
    return tree


def split(argv: Sequence[str], flags: Sequence[str]) -> tuple[list[str], list[tuple[str, Any]]]:
    """Positional words, and (key, value) pairs in order.

    Args:
        argv: `--key value`, `--key=value`; a flag may stand alone and means true. Dashes in a key are underscores.
        flags: keys of true-or-false options.

    Raises:
        UsageError: for a key without a value.
    """
    words: list[str] = []
    pairs: list[tuple[str, Any]] = []
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            words.append(token)
            continue
        key, equals, value = token[2:].partition("=")
        key = key.replace("-", "_")
        if equals:
            pairs.append((key, value))
        elif key in flags:
            # a following true or false belongs to the flag
            pairs.append((key, rest.pop(0) if rest and rest[0] in ("true", "false") else True))
        elif rest and (not rest[0].startswith("--")):
            pairs.append((key, rest.pop(0)))
        else:
            raise UsageError([f"--{key}: needs a value"])
    return words, pairs


def merge(tree: Mapping[str, Any], pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The tree with values set at dotted keys; `sampler` replaces a part, `sampler.order` sets an argument of it.

    A part is set before its arguments, in whatever order they are said. Text that is a YAML list or mapping is read as one. The
    words class_path and init_args may be said or left out.
    """
    result = dict(tree)
    for key, value in sorted(_current(pairs), key=lambda pair: _depth(pair[0])):
        names = [n for n in key.split(".") if n != "init_args"]
        result = _set(result, names, _read(value), top=True)
    return result


def _depth(key: str) -> int:
    """How deep a key lies: a part before its arguments."""
    return sum(name not in ("init_args", "class_path") for name in key.split("."))


def _current(pairs: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The pairs without the arguments of a part that is named again later."""
    kept: list[tuple[str, Any]] = []
    for key, value in pairs:
        if any(k == key for k, _ in kept):
            kept = [(k, v) for k, v in kept if not k.startswith(f"{key}.")]
        kept.append((key, value))
    return kept


def gather(pairs: Sequence[tuple[str, Any]]) -> list[Any]:
    """The values of a key that may be said several times; a dotted key sets an argument of the one said last.

    Raises:
        UsageError: for a dotted key before there is one.
    """
    found: list[Any] = []
    for key, value in pairs:
        _, dot, rest = key.partition(".")
        if dot and not found:
            raise UsageError([f"--{key}: name the part before its arguments"])
        if dot:
            found[-1] = _set(
                {"x": found[-1]}, ["x", *(n for n in rest.split(".") if n != "init_args")], _read(value), top=True
            )["x"]
        else:
            said = _read(value)
            found += said if isinstance(said, list) else [said]
    return found


def _read(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError):
            return value
    return value


def _set(tree: Any, names: Sequence[str], value: Any, top: bool = False) -> Any:
    if not names:
        return value
    first, rest = names[0], names[1:]
    if top:
        return {**tree, first: _set(tree.get(first), rest, value)}
    part: dict[str, Any] = {}
    if isinstance(tree, str):
        part = {"class_path": tree}
    elif isinstance(tree, Mapping):
        part = {str(k): v for k, v in tree.items()}
    if first == "class_path":
        return {**part, "class_path": value}
    args = dict(part.get("init_args") or {})
    return {**part, "init_args": {**args, first: _set(args.get(first), rest, value)}}
