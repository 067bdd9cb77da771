"""What A1111 and ComfyUI write into their pictures, as fields of our form, and what of it has no place there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .menus import OWN, RULES

__all__ = ["GRID_NAMES", "SAMPLER_NAMES", "Foreign", "read_a1111", "read_comfy"]

SAMPLER_NAMES = {
    "euler": "Euler", "euler a": "Euler a", "euler ancestral": "Euler a", "heun": "Heun", "ddim": "DDIM", "ddpm": "DDPM", "dpm2": "DPM2",
    "dpm 2": "DPM2", "dpm2 a": "DPM2 a", "dpm 2 ancestral": "DPM2 a", "dpm++ 2s a": "DPM++ 2S a", "dpmpp 2s ancestral": "DPM++ 2S a",
    "dpm++ 2m": "DPM++ 2M", "dpmpp 2m": "DPM++ 2M", "dpm++ 2m sde": "DPM++ 2M SDE", "dpmpp 2m sde": "DPM++ 2M SDE",
    "dpmpp 2m sde gpu": "DPM++ 2M SDE", "dpm++ 2m sde heun": "DPM++ 2M SDE Heun", "dpmpp 2m sde heun": "DPM++ 2M SDE Heun",
    "dpm++ 3m sde": "DPM++ 3M SDE", "dpmpp 3m sde": "DPM++ 3M SDE", "dpmpp 3m sde gpu": "DPM++ 3M SDE", "lms": "LMS", "plms": "PLMS",
    "unipc": "UniPC(order=3, variant=bh1)", "uni pc": "UniPC(order=3, variant=bh1)", "uni pc bh2": "UniPC(order=3)",
    "gradient estimation": "Gradient estimation",
}  # fmt: skip
"""Samplers of others, in small letters and with blanks for _, and what each is here."""

GRID_NAMES = {
    "karras": "Karras", "exponential": "Exponential (uniform in log-SNR)", "simple": "Simple (trailing)", "ddim": "Leading(offset=1)",
    "ddim uniform": "Leading(offset=1)", "normal": "Linspace", "uniform": "Linspace", "automatic": "Linspace",
    "sgm uniform": "Linspace(clean=false)",
}  # fmt: skip
"""Likewise grids."""

# levels between two entries of the table are rounded to one here
_NEARLY = ("normal", "uniform", "automatic", "sgm uniform")


class Foreign(NamedTuple):
    """program: that made the picture. rows: what it says, for people. values: of our form. notes: what was not known."""

    program: str
    rows: list[tuple[str, str]]
    values: dict[str, Any]
    notes: list[str]


def read_a1111(text: str) -> Foreign:
    """The text chunk `parameters` of Stable Diffusion web UI, Forge and others.

    Args:
        text: of the chunk.
    """
    lines = text.replace("\r", "").strip().split("\n")
    last = lines.pop() if re.search(r"\bSteps:\s*\d", lines[-1]) else ""
    found = {
        key.strip(): value.strip(' "')
        for key, value in re.findall(r'([A-Z][\w \-/]{0,40}):[ ]*("(?:[^"\\]|\\.)*"|[^,]*)', last[:20_000])
    }
    said = "\n".join(lines)
    prompt, _, negative = said.partition("Negative prompt:")
    sampler, grid = found.get("Sampler", ""), found.get("Schedule type", "")
    for suffix in ("Karras", "Exponential"):  # before version 1.9 both were one name
        if sampler.endswith(f" {suffix}") and not grid:
            sampler, grid = sampler.removesuffix(f" {suffix}"), suffix
    found |= {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    return _foreign(
        "Stable Diffusion web UI", prompt.strip(), negative.strip(), sampler, grid or ("ddim" if sampler in ("DDIM", "PLMS") else ""),
        found.get("Steps"), found.get("CFG scale"), found.get("Seed"), found,
    )  # fmt: skip


def read_comfy(text: str) -> Foreign:
    """The text chunk `prompt` of ComfyUI: a graph of nodes, of which the first that samples is read.

    Args:
        text: of the chunk, JSON.

    Raises:
        ValueError: for what is no such graph.
    """
    try:
        nodes: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the ComfyUI graph can't be read: it is no JSON, or nested too deeply") from None
    if not isinstance(nodes, Mapping):
        raise ValueError("the ComfyUI graph holds no nodes")
    inputs = next((_inputs(node) for node in nodes.values() if "KSampler" in _kind(node)), {})
    if not inputs:
        raise ValueError("the ComfyUI graph has no node that samples (KSampler)")
    prompt, negative = (_words(nodes, inputs.get(name)) for name in ("positive", "negative"))
    plain = {key: value for key, value in inputs.items() if isinstance(value, str | int | float)}
    return _foreign(
        "ComfyUI", prompt, negative, str(inputs.get("sampler_name", "")), str(inputs.get("scheduler", "")), plain.get("steps"),
        plain.get("cfg"), plain.get("seed", plain.get("noise_seed")), {**plain, "positive": prompt, "negative": negative},
    )  # fmt: skip


def _kind(node: Any) -> str:
    return str(node.get("class_type", "")) if isinstance(node, Mapping) else ""


def _inputs(node: Any) -> Mapping[str, Any]:
    found = node.get("inputs") if isinstance(node, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _words(nodes: Mapping[str, Any], link: Any) -> str:
    """The text behind a link, through the nodes that only pass it on."""
    for _ in range(20):
        if isinstance(link, str):
            return link
        if not isinstance(link, list) or not link or not isinstance(link[0], str):
            return ""
        inputs = _inputs(nodes.get(link[0]))
        link = next(
            (inputs[name] for name in ("text", "text_g", "string", "conditioning", "positive") if name in inputs), None
        )
    return ""


def _foreign(
    program: str, prompt: str, negative: str, sampler: str, grid: str, steps: Any, scale: Any, seed: Any, said: Mapping[str, Any]
) -> Foreign:  # fmt: skip
    """Names and numbers of others as ours."""
    values: dict[str, Any] = {"prompt": prompt, "negative": negative, "count": 1}
    notes = [
        "another program made it: its noise and its text encoder are its own, so the same seed gives another picture here"
    ]
    name = sampler.lower().replace("_", " ").strip()
    spacing = grid.lower().replace("_", " ").strip()
    values["sampler"], values["grid"] = SAMPLER_NAMES.get(name, OWN), GRID_NAMES.get(spacing, OWN)
    if name not in SAMPLER_NAMES:
        notes.append(f"sampler: {sampler[:60]!r} is none of ours; the model's own is taken")
    if spacing and spacing not in GRID_NAMES:
        notes.append(f"grid: {grid[:60]!r} is none of ours; the model's own is taken")
    elif spacing in _NEARLY:
        notes.append(f"grid: {grid[:60]!r} is Linspace nearly: levels stand on entries of the table here")
    for field, given, whole in (("steps", steps, True), ("scale", scale, False)):
        found = _number(given)
        if found is not None:
            values[field] = int(found) if whole and found == int(found) else found
    if "scale" in values:
        values["rule"] = next(name for name, part in RULES.items() if part == "CFG")
        if not 0 <= values["scale"] <= 15:
            values["rule"] = f"CFG(scale={values.pop('scale')!r})"
    number = _number(seed)
    if number is not None and 0 <= number < 2**63:
        values["seeds"] = str(int(seed))
    elif seed is not None:
        notes.append(f"seed: {str(seed)[:40]} is beyond 2^63; a random one is taken")
    return Foreign(program, [(key, str(value)) for key, value in said.items()], values, notes)


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) < 1e30 else None
