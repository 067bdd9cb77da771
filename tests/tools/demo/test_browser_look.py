"""The page as it is seen and reached: light and dark, a phone, the keyboard alone."""

import pytest
from browsing import drawn

pytestmark = pytest.mark.browser

TABS = ["Sample", "Compare", "Trajectory", "Schedule", "PNG info"]

DARK = "document.body.classList.contains('dark')"
GROUND = "getComputedStyle(document.body).backgroundColor"


def test_light_and_dark_follow_the_system_until_one_is_chosen(visit):
    light, dark = visit(), visit(dark=True)
    assert not light.page.evaluate(DARK)
    assert dark.page.evaluate(DARK)
    assert light.page.evaluate(GROUND) != dark.page.evaluate(GROUND)

    switch = light.page.get_by_role("button", name="Dark page")
    assert switch.get_attribute("aria-pressed") == "false"
    switch.focus()
    light.page.keyboard.press("Enter")
    assert light.page.evaluate(DARK)
    assert switch.get_attribute("aria-pressed") == "true"
    assert light.page.evaluate(GROUND) == dark.page.evaluate(GROUND)
    light.reload()
    light.page.wait_for_function(DARK)  # it is remembered

    light.page.emulate_media(color_scheme="dark")
    light.page.emulate_media(color_scheme="light")
    light.page.wait_for_timeout(200)
    assert light.page.evaluate(DARK)  # and the system does not take it back
    switch.click()
    assert not light.page.evaluate(DARK)
    light.page.emulate_media(color_scheme="dark")
    light.page.wait_for_function(DARK)  # what the system has anyway is not held on to


def test_the_page_can_be_asked_for_in_dark(visit):
    assert visit(path="?__theme=dark").page.evaluate(DARK)
    assert not visit(path="?__theme=light", dark=True).page.evaluate(DARK)


def test_a_phone_shows_every_tab_without_scrolling_sideways(visit):
    phone = visit(phone=True)
    found = {}
    for name in TABS:
        phone.tab(name)
        phone.settle(0)
        small = phone.page.evaluate(SMALL)
        found |= {name: small} if small else {}
        assert phone.sideways() <= 0, name
    assert not found


# what a finger would miss: what is seen and lower or narrower than 40 px; what has a label of its own is as large as that, and links
# within a sentence are as high as its line
SMALL = """() => [...document.querySelectorAll('button, a[href], [role=button], [role=tab], [role=slider], select, input, textarea')]
  .filter(e => e.checkVisibility({checkVisibilityCSS: true, checkOpacity: true}) && !e.closest('[aria-hidden=true], p'))
  .map(e => [e, (['checkbox', 'radio'].includes(e.type) ? e.labels?.[0] || e : e).getBoundingClientRect()])
  .filter(([e, r]) => r.width > 1 && r.height > 1 && (r.height < 39 || r.width < 39))
  .map(([e, r]) => `${e.tagName} ${e.id || e.getAttribute('aria-label') || e.className} ${Math.round(r.width)}x${Math.round(r.height)}`)"""


def test_a_phone_makes_pictures(visit):
    phone = visit(phone=True)
    phone.write("seeds", 3)
    assert phone.page.evaluate(
        "document.querySelector('#make').getBoundingClientRect().bottom <= innerHeight"
    )  # in reach
    phone.page.locator("#make").tap()
    phone.made()
    assert phone.page.evaluate(
        "document.querySelector('#tiles').getBoundingClientRect().top < innerHeight / 2"
    )  # and seen
    assert drawn(phone.pictures("#tiles"))
    assert phone.sideways() <= 0


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visitor):
    """From the top by Tab alone: every part that can be used is met, and each has a ring of 2 px round it or its box."""
    met, unseen = [], []
    for _ in range(80):
        visitor.page.keyboard.press("Tab")
        at = visitor.page.evaluate(FOCUSED)
        if at is None:
            break
        met.append(at["name"])
        if not at["ring"]:
            unseen.append(at["name"])
    assert not unseen
    for name in ("Model", "Dark page", *TABS, "Class", "Sampler", "Grid", "Rule", "Seed", "Sample"):
        assert any(name == each for each in met), (name, met)


FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const label = e.closest('label')?.querySelector('[data-testid=block-info]')?.innerText;
  const name = (e.getAttribute('aria-label') || label || e.labels?.[0]?.innerText || e.innerText || e.title || e.id || e.className).trim();
  let ring = false;
  for (let at = e, up = 0; at && up < 5; at = at.parentElement, up++) {
    const style = getComputedStyle(at);
    ring = ring || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2);
  }
  return {name, ring};
}"""


def test_the_keyboard_alone_makes_pictures_and_changes_tabs(visitor):
    page = visitor.page
    page.locator("#seeds textarea, #seeds input").first.focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("11")
    page.locator("#make").focus()
    page.keyboard.press("Enter")
    visitor.made()
    assert drawn(visitor.pictures("#tiles"))
    page.get_by_role("tab", name="Schedule").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("tab", name="Schedule").get_attribute("aria-selected") == "true"


def test_less_motion_where_it_is_asked_for(visitor):
    durations = visitor.page.evaluate(
        "[...document.querySelectorAll('button, input, .sf-bar')].map(e => parseFloat(getComputedStyle(e).transitionDuration))"
    )
    assert max(durations) < 0.001
