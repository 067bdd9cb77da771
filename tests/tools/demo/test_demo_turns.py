"""One visitor takes no more than his part of the queue, and a name no longer than one."""

import threading

from crowded import Guest, sampling, until
from demoed import served
from modelled import made

from sfumato.tools.demo.shelf import Entry
from sfumato.tools.demo.turns import MOST


def test_one_visitor_leaves_room_for_others():
    """However often he asks, by the page or as a program that names no session; what runs does not count."""
    model, go, began = made(), threading.Event(), threading.Event()

    def wait(*_):
        began.set()
        go.wait(60)

    model.denoiser.backbone.register_forward_pre_hook(wait)
    with served([Entry("m", lambda: model)]) as where:
        try:
            first, greedy, other = Guest(where), Guest(where), Guest(where)
            assert first.join("m", steps=1, count=1)[0] == 200
            until(began.is_set)
            answers = [greedy.join("m", steps=1, count=1)[:2] for _ in range(16)]
            assert [status for status, _ in answers] == [200] * MOST + [503] * (16 - MOST)
            assert b"Your part of the queue is full: 4" in answers[-1][1]
            called = [where.say("/gradio_api/call/sample", {"data": []})[0] for _ in range(8)]
            assert called == [200] * MOST + [503] * (8 - MOST)
            assert other.join("m", steps=1, count=1)[0] == 200
        finally:
            go.set()
        assert len(list(other.pictures())) == 1

        function = sampling(where)[0]
        for name in (
            "x" * 65,
            "a b",
            "../x",
            "",
            "\0",
        ):  # the server holds them for hours, so a megabyte of one would stay there
            tree = {"data": [], "fn_index": function, "session_hash": name}
            status, _, body = where.say("/gradio_api/queue/join", tree)
            assert status == 400
            assert b"no name of a session" in body
