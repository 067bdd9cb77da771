"""Visitors who came and went do not stay in memory for ever."""

from demoed import served

from sfumato.tools.demo import app


def test_no_more_visitors_are_remembered_than_are_allowed(monkeypatch):
    monkeypatch.setattr(app, "SESSIONS", 3)
    pages, real = [], app.build_app
    monkeypatch.setattr(app, "build_app", lambda *given: pages.append(real(*given)) or pages[-1])
    with served() as where:
        (page,) = pages
        known = page.state_holder.session_data
        for name in ("a", "b", "c", "d", "e"):
            page.state_holder[name]
        assert list(known) == ["c", "d", "e"]
        page.state_holder["c"]  # seen again, so the next one takes the place of another
        page.state_holder["f"]
        assert list(known) == ["e", "c", "f"]
        assert where.ask("GET", "/")[0] == 200
