"""Figures as SVG: well-formed, each within its own names, readable, without anything that reaches out."""

import json
import re
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure

from sfumato.schedules import Cosine, Shifted, VarianceExploding
from sfumato.tools.demo.svg import INK, SOFT, as_svg
from sfumato.tools.inspect import curves
from sfumato.tools.inspected import look
from sfumato.tools.page import PALETTE
from sfumato.tools.schedule_figure import PANELS, draw_schedule, schedule_panel, schedule_picture

SVG = "{http://www.w3.org/2000/svg}"
DIGITS = look("digits", [], [], None)
DATA = curves(DIGITS.parts, [Cosine(), Shifted(VarianceExploding(), 2.0)])


def line(limits, about="a line", text="text", color=INK):
    """A line that is cut by its axes."""
    figure = Figure(figsize=(3, 2))
    axes = figure.add_axes(limits)
    axes.plot([0, 1], [0, 9], color=color, label=text)
    axes.set(ylim=(0, 1), xlabel=text)
    return as_svg(figure, about)


def names(svg):
    return re.findall(r' id="([^"]+)"', svg)


def test_two_figures_on_a_page_do_not_cut_each_other():
    page = [line((0.1, 0.1, 0.8, 0.8)), line((0.3, 0.3, 0.2, 0.2)), line((0.1, 0.1, 0.8, 0.8), "another")]
    every = [n for svg in page for n in names(svg)]
    assert len(set(every)) == len(every) > 3
    for svg in page:
        referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
        assert {a or b for a, b in referred} == set(names(svg))
        root = ET.fromstring(svg)
        cuts = list(root.iter(f"{SVG}clipPath"))
        assert cuts
        assert all(c.find(f"{SVG}rect") is not None or c.find(f"{SVG}path") is not None for c in cuts)


def test_the_same_figure_is_the_same_text():
    assert line((0.1, 0.1, 0.8, 0.8)) == line((0.1, 0.1, 0.8, 0.8))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_is_an_element_with_letters_that_can_be_read_and_selected(panel):
    figure = schedule_panel(DATA, panel, INK, SOFT)
    svg = as_svg(figure, f"about {panel}", grow=1.5)
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"about {panel}"
    width, height = (float(v) for v in root.get("viewBox").split()[2:])
    assert (width, height) == pytest.approx(tuple(72 * figure.get_size_inches()), abs=0.01)
    # a point is 4/3 pixels; a telephone of 390 pixels leaves 358
    assert width * 4 / 3 <= 358
    assert f"max-width:{width * 2:.0f}px" in root.get("style")
    texts = list(root.iter(f"{SVG}text"))
    assert len(texts) > 6
    for text in texts:
        size = re.search(r"font-size: ([\d.]+)px", text.get("style")) or re.search(
            r"font: ([\d.]+)px", text.get("style")
        )
        assert float(size[1]) * 4 / 3 >= 11
        assert "var(--sf-font)" in text.get("style")
    used = {e.tag.removeprefix(SVG) for e in root.iter()}
    assert used <= {"svg", "defs", "g", "path", "use", "text", "tspan", "clipPath", "rect"}
    assert INK not in svg
    assert SOFT not in svg
    assert "currentColor" in svg
    assert "var(--sf-soft)" in svg
    assert not re.search(r"<style|<script|<metadata|\bon\w+=|url\((?!#)|href=\"(?!#)", svg)


def test_what_a_visitor_wrote_is_text():
    svg = line((0.2, 0.2, 0.6, 0.6), about='"><script>alert(1)</script>', text="<b onload=x>&amp; #010203")
    root = ET.fromstring(svg)
    assert root.get("aria-label") == '"><script>alert(1)</script>'
    assert "<b onload=x>&amp; #010203" in [t.text for t in root.iter(f"{SVG}text")]
    assert "<script" not in svg


def test_black_is_the_ink_of_the_page():
    assert "#000000" not in line((0.2, 0.2, 0.6, 0.6), color=PALETTE[6])


def test_figures_may_be_drawn_by_several_visitors_at_once():
    wanted, found = {p: as_svg(schedule_panel(DATA, p, INK, SOFT), p) for p in PANELS}, []

    def draw(panel):
        found.append((panel, as_svg(schedule_panel(DATA, panel, INK, SOFT), panel)))

    threads = [threading.Thread(target=draw, args=(p,)) for p in PANELS * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([*wanted.items()] * 2)


def lines(figure, k=0):
    return {line.get_label(): line.get_xydata() for line in figure.axes[k].get_lines()}


def test_what_is_drawn_is_what_was_computed():
    """In the picture of the command and in the panels of the page alike."""
    picture = schedule_picture(DATA, "title")
    for k, panel in enumerate(PANELS):
        alone, together = lines(schedule_panel(DATA, panel)), lines(picture, k)
        assert alone.keys() == together.keys()
        for name, points in alone.items():
            np.testing.assert_array_equal(points, together[name])
    path = lines(picture, 0)
    finite = np.isfinite(DATA["log_snr"])
    np.testing.assert_array_equal(path["RectifiedFlow"][finite, 1], np.array(DATA["log_snr"])[finite])
    np.testing.assert_array_equal(path["Cosine(s=0.008)"][1:-1, 1], DATA["also"][0]["log_snr"][1:-1])
    np.testing.assert_array_equal(path["steps of the grid"][:, 0], DATA["grid"]["t"][:-1])
    sizes = lines(picture, 1)
    np.testing.assert_array_equal(sizes["alpha (data)"][:, 1], DATA["alpha"])
    np.testing.assert_array_equal(sizes["sigma (noise)"][:, 1], DATA["sigma"])
    np.testing.assert_array_equal(sizes["steps"][:, 0], DATA["grid"]["t"])
    assert 0 < lines(picture, 2)["what training draws"][:, 1].max() < 1
    weights = lines(picture, 3)
    for key, name in (("output", "on the output (EDM)"), ("eps", "on eps"), ("x0", "on x0")):
        np.testing.assert_array_equal(weights[name][:, 1], DATA["weighting"][key])


def test_lines_differ_by_more_than_colour():
    for panel in PANELS:
        drawn = [
            line for line in schedule_panel(DATA, panel).axes[0].get_lines() if not line.get_label().startswith("_")
        ]
        looks = [(str(line._dash_pattern), line.get_marker()) for line in drawn]
        assert len(set(looks)) == len(looks), panel


def test_the_file_is_written_from_its_own_json(tmp_path):
    """Figures hold nothing that JSON does not."""
    again = json.loads(json.dumps(DATA))
    draw_schedule(again, "title", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
