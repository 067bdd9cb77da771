"""Warnings go to the visitor whose work gave them, and to nobody else."""

import threading
import warnings

import pytest

from sfumato.tools.demo.heard import heard
from sfumato.tools.overheard import overheard


def warned(words, kind=UserWarning):
    warnings.warn(words, kind, stacklevel=2)


def test_a_sentence_is_heard_once_and_by_every_visitor():
    for _ in range(3):  # Python by itself says it the first time only
        with heard() as notes:
            for _ in range(2):
                warned("three pictures diverged")
            warned("see /home/someone/runs/mine/config.yaml")
        assert notes == ["three pictures diverged", "see config.yaml"]


def test_threads_hear_their_own():
    both, found = threading.Barrier(8, timeout=10), {}

    def work(name):
        for turn in range(20):
            with heard() as notes:
                both.wait()
                warned(f"{name} {turn}")
                both.wait()
            found.setdefault(name, []).extend(notes)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [f"{name} {turn}" for turn in range(20)] for name in range(8)}


def test_a_thread_that_does_not_listen_is_shown_as_ever(recwarn):
    with heard() as notes:
        other = threading.Thread(target=warned, args=("elsewhere",))
        other.start()
        other.join()
    warned("afterwards")
    assert notes == []
    assert [str(w.message) for w in recwarn] == ["elsewhere", "afterwards"]


def test_what_is_for_programmers_is_no_note(recwarn):
    with heard() as notes:
        warned("old", DeprecationWarning)
    assert notes == []
    assert [w.category for w in recwarn] == [DeprecationWarning]


def test_catch_warnings_elsewhere_does_not_take_it_away():
    """Another thread's block that began before and ends within puts back what was there, which is the same hook."""
    with heard():
        pass
    inside, leave = threading.Event(), threading.Event()

    def other():
        with warnings.catch_warnings():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with heard() as notes:
        leave.set()
        thread.join()
        warned("heard all the same")
    assert notes == ["heard all the same"]


def test_filters_of_the_user_hold():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "quiet")
        warnings.filterwarnings("error", "loud")
        with heard() as notes:
            warned("quiet please")
            with pytest.raises(UserWarning, match="loud"):
                warned("loud please")
    assert notes == []


def test_listeners_nest():
    said = []
    with heard() as outer:
        with overheard(said.append):
            warned("within")
        warned("without")
    assert [str(w) for w in said] == ["within"]
    assert isinstance(said[0], UserWarning)
    assert outer == ["without"]
