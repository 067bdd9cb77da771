"""How the page looks: the theme, and the style sheets and the script that lie beside this file."""

from __future__ import annotations

from importlib import resources

from gradio.themes import Base, Size

from .colours import DARK, LIGHT, variables

__all__ = ["css", "favicon", "script", "theme"]

FONT = ["system-ui", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]

_HERE = resources.files("sfumato.tools.demo")

_TEXT = Size("11px", "12px", "13px", "15px", "16px", "20px", "28px", name="sf_text")
_SPACE = Size("1px", "2px", "4px", "6px", "8px", "12px", "16px", name="sf_space")
_ROUND = Size("2px", "3px", "4px", "6px", "8px", "10px", "14px", name="sf_round")

# what Gradio calls it, and the colour that it has in both modes
_COLOURS = {
    "body_text_color": "ink", "body_text_color_subdued": "soft", "background_fill_primary": "card", "background_fill_secondary": "back",
    "border_color_primary": "line", "border_color_accent": "accent", "color_accent_soft": "tint", "border_color_accent_subdued": "line",
    "link_text_color": "accent", "link_text_color_active": "deep", "link_text_color_hover": "deep", "link_text_color_visited": "accent",
    "code_background_fill": "sunk", "block_background_fill": "card", "block_border_color": "line", "block_info_text_color": "soft",
    "block_label_background_fill": "card", "block_label_border_color": "line", "block_label_text_color": "soft",
    "block_title_text_color": "ink", "panel_background_fill": "back", "panel_border_color": "line", "accordion_text_color": "ink",
    "table_text_color": "ink", "table_border_color": "line", "table_even_background_fill": "card", "table_odd_background_fill": "card",
    "table_row_focus": "tint",
    "checkbox_background_color": "card", "checkbox_background_color_hover": "card", "checkbox_background_color_focus": "card",
    "checkbox_background_color_selected": "accent", "checkbox_border_color": "edge", "checkbox_border_color_hover": "accent",
    "checkbox_border_color_focus": "accent", "checkbox_border_color_selected": "accent", "checkbox_label_background_fill": "card",
    "checkbox_label_background_fill_hover": "sunk", "checkbox_label_background_fill_selected": "tint",
    "checkbox_label_border_color": "line", "checkbox_label_border_color_hover": "edge", "checkbox_label_border_color_selected": "accent",
    "checkbox_label_text_color": "ink", "checkbox_label_text_color_selected": "ink",
    "error_background_fill": "card", "error_border_color": "bad", "error_text_color": "bad", "error_icon_color": "bad",
    "input_background_fill": "card", "input_background_fill_focus": "card", "input_background_fill_hover": "card",
    "input_border_color": "edge", "input_border_color_focus": "accent", "input_border_color_hover": "accent",
    "input_placeholder_color": "soft", "loader_color": "accent", "slider_color": "accent", "stat_background_fill": "tint",
    "button_primary_background_fill": "accent", "button_primary_background_fill_hover": "deep", "button_primary_border_color": "accent",
    "button_primary_border_color_hover": "deep", "button_primary_text_color": "on", "button_primary_text_color_hover": "on",
    "button_secondary_background_fill": "card", "button_secondary_background_fill_hover": "sunk", "button_secondary_border_color": "edge",
    "button_secondary_border_color_hover": "ink", "button_secondary_text_color": "ink", "button_secondary_text_color_hover": "ink",
    "button_cancel_background_fill": "card", "button_cancel_background_fill_hover": "sunk", "button_cancel_border_color": "bad",
    "button_cancel_border_color_hover": "bad", "button_cancel_text_color": "bad", "button_cancel_text_color_hover": "bad",
}  # fmt: skip


def theme() -> Base:
    """The theme; its letters are those of the visitor's system, since a page that fetches some tells a third party who looks."""
    both = {name: f"var(--sf-{colour})" for name, colour in _COLOURS.items()}
    both |= {
        "input_border_width": "1px",
        "block_border_width": "0px",
        "panel_border_width": "0px",
        "block_shadow": "none",
    }
    both |= {
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "checkbox_label_border_width": "1px",
    }
    both |= {"checkbox_border_width": "1px", "button_border_width": "1px"}
    base = Base(text_size=_TEXT, spacing_size=_SPACE, radius_size=_ROUND, font=FONT, font_mono=MONO)
    base.set(
        **both, **{f"{name}_dark": value for name, value in both.items()},
        # written out, since the page is painted in them before any style sheet is there
        body_background_fill=LIGHT["back"], body_background_fill_dark=DARK["back"],
        block_padding="0px", block_radius="8px", block_title_text_size="13px", block_title_text_weight="500",
        block_info_text_size="13px", layout_gap="16px", form_gap_width="0px", input_padding="9px 12px", input_radius="6px",
        input_text_size="15px", checkbox_label_padding="9px 12px", checkbox_label_gap="8px", checkbox_label_shadow="none",
        button_large_padding="10px 20px", button_large_radius="6px", button_large_text_size="15px", button_large_text_weight="500",
        button_medium_padding="9px 16px", button_medium_radius="6px", button_medium_text_size="15px", button_medium_text_weight="500",
        button_small_padding="8px 12px", button_small_radius="6px", button_small_text_size="13px", button_small_text_weight="500",
        button_transition="background-color .12s, border-color .12s", section_header_text_size="16px", section_header_text_weight="600",
        prose_text_size="15px", prose_header_text_weight="600", color_accent="var(--sf-accent)", button_primary_shadow="none",
        button_secondary_shadow="none", shadow_drop="none", shadow_drop_lg="0 6px 24px rgb(0 0 0 / .14)",
    )  # fmt: skip
    return base


def css() -> str:
    """All style sheets, after the colours and the letters as --sf-font and --sf-mono."""
    sheets = sorted(f.name for f in _HERE.iterdir() if f.name.endswith(".css"))
    # these first: a tab's own sheet may say otherwise
    sheets.sort(key=lambda name: name not in ("gradio.css", "look.css"))
    letters = f":root{{--sf-font:{','.join(FONT)};--sf-mono:{','.join(MONO)};}}"
    return "\n".join([variables(), letters, *(_HERE.joinpath(name).read_text() for name in sheets)])


def script() -> str:
    """The page's script, for Gradio's `js`: a function that changes between light and dark, and copies.

    Not for its `head`: a script that is put there is a text of the page, and the server's policy lets no such text run.
    """
    return _HERE.joinpath("look.js").read_text()


def favicon() -> str:
    """The file of the small picture that a browser shows beside the title."""
    return str(_HERE.joinpath("favicon.png"))
