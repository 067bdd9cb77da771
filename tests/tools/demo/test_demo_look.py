"""The demo's look: contrast of its colours, what its style sheets name, and that nothing of it is fetched from elsewhere."""

import itertools
import re
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image

from sfumato.tools.demo.colours import DARK, LIGHT, variables
from sfumato.tools.demo.look import css, favicon, script, theme
from sfumato.tools.page import PALETTE

GROUNDS = ("back", "card", "sunk", "tint")
TEXTS = ("ink", "soft", "accent", "deep", "kept", "rejected", "bad")
PAIRS = [*itertools.product(TEXTS, GROUNDS), ("on", "accent"), ("on", "deep"), ("noted", "note"), ("ink", "note")]


def luminance(colour):
    """Relative luminance of sRGB, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def declared(dark):
    """The variables as a browser reads them out of the style sheet: those of .dark lie over those of :root."""
    found = {}
    for selector, body in re.findall(r"(:root|\.dark)\{([^}]*)\}", variables()):
        if dark or selector == ":root":
            found |= dict(re.findall(r"--sf-(\w+):(#\w{6})", body))
    return found


def test_contrast_is_that_of_the_definition():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS, ids=lambda name: name)
def test_text_is_read_in_both_modes(text, ground, dark):
    colours = declared(dark)
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS[:2])
def test_what_can_be_used_has_an_edge_that_is_seen(ground, dark):
    colours = declared(dark)
    assert contrast(colours["edge"], colours[ground]) >= 3
    assert contrast(colours["accent"], colours[ground]) >= 3  # the ring of what has the focus


def test_both_modes_have_the_same_names_and_figures_have_theirs():
    assert set(LIGHT) == set(DARK)
    light, dark = declared(False), declared(True)
    assert [light[str(i + 1)] for i in range(len(PALETTE))] == list(PALETTE)
    assert contrast(dark[str(len(PALETTE))], dark["back"]) > 4.5  # black would not be seen


def test_style_sheets_use_only_variables_that_are_there():
    text = css()
    named = {name for sheet in (text, theme()._get_theme_css()) for name in re.findall(r"var\(--sf-([\w-]+)\)", sheet)}
    here = resources.files("sfumato.tools.demo")
    # some are set on an element, by a script or with its HTML
    texts = [text, *(f.read_text() for f in here.iterdir() if f.name.endswith((".js", ".py")))]
    own = {name for each in texts for name in re.findall(r"--sf-([\w-]+)['\"]?\s*[:,]", each)}
    assert named <= own
    assert {"ink", "soft", "accent"} <= named


def test_nothing_is_fetched_from_another_host():
    for text in (css(), script(), theme()._get_theme_css()):
        assert not re.findall(r"(?:https?:|@import|url\((?![\"']?data:))(?!//www\.w3\.org)", text)
    assert not theme()._stylesheets


def test_the_favicon_is_a_small_picture():
    with Image.open(favicon()) as picture:
        assert picture.size == (64, 64)
    assert Path(favicon()).stat().st_size < 16_000


def test_sheets_are_put_together_in_an_order_that_lets_tabs_differ():
    text = css()
    here = resources.files("sfumato.tools.demo")
    at = {f.name: text.index(f.read_text()) for f in here.iterdir() if f.name.endswith(".css")}
    assert sorted(at, key=at.__getitem__)[:2] == ["gradio.css", "look.css"]
