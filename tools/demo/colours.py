"""The page's colours, light and dark: where a style sheet and the theme take them from, and a test reads what they promise."""

from __future__ import annotations

from ..page import PALETTE

__all__ = ["DARK", "LIGHT", "variables"]

LIGHT = {
    "ink": "#1c1c1e", "soft": "#62626a", "line": "#dedee2", "edge": "#8a8a93", "back": "#fbfbf9", "card": "#ffffff", "sunk": "#f3f3f0",
    "accent": "#00639c", "deep": "#004f7d", "tint": "#e8f1f8", "on": "#ffffff", "kept": "#00724f", "rejected": "#a94500",
    "note": "#fdf3e3", "noted": "#754a00", "bad": "#b3261e",
}  # fmt: skip
"""ink: text. soft: text that matters less. line: between things. edge: of what can be used. back: the page. card: what lies on it. sunk:
what is set into it. accent: what can be done. deep: the same under the pointer. tint: behind what is chosen. on: text on the accent.
kept, rejected: verdicts. note, noted: a warning's ground and text. bad: a refusal."""

DARK = {
    "ink": "#ececee", "soft": "#a6a6ae", "line": "#34343a", "edge": "#77777f", "back": "#151517", "card": "#1d1d21", "sunk": "#25252a",
    "accent": "#62b8ea", "deep": "#8accf2", "tint": "#1b3040", "on": "#0b1720", "kept": "#2bc59b", "rejected": "#f2924a",
    "note": "#33291a", "noted": "#f0c27a", "bad": "#ff8a80",
}  # fmt: skip
"""The same names as `LIGHT`."""


def variables() -> str:
    """Rules that give the colours to style sheets: --sf-ink and so on, and --sf-1, --sf-2, ..., which are those of figures."""
    figures = dict(enumerate(PALETTE, 1))
    light = "".join(f"--sf-{name}:{colour};" for name, colour in {**LIGHT, **figures}.items())
    # black on dark is not seen, so the last of the palette is the ink there
    dark = "".join(f"--sf-{name}:{colour};" for name, colour in {**DARK, len(PALETTE): DARK["ink"]}.items())
    return f":root{{color-scheme:light;{light}}}\n.dark{{color-scheme:dark;{dark}}}"
