"""Work in a thread of its own: what is handed out, how it stops, and that one piece of work computes at a time."""

import threading
import time

import pytest
import torch
from modelled import made

from sfumato.tools.demo.running import Done, Halt, Running, going_on


def counting(count, steps, pause=0.0):
    """Work that says its steps; `count` keeps how many were made."""

    def work(say):
        for step in range(steps):
            count.append(step)
            time.sleep(pause)
            say(step)
        return "result"

    return work


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_things_come_in_order_the_last_is_the_result():
    count = []
    *said, done = going_on(counting(count, 50, 0.002), Halt(), pause=0.01)
    assert said == sorted(set(said))
    assert isinstance(done, Done)
    assert (done.result, done.stopped) == ("result", False)
    assert len(count) == 50
    assert 1 <= len(said) < 50  # those that nobody could look at are left out


def test_a_slow_consumer_sees_the_latest_and_slows_nothing_down():
    count, seen = [], []
    for said in going_on(counting(count, 100, 0.001), Halt(), pause=0.0):
        seen.append((said, len(count)))
        time.sleep(0.05)
    done, made_meanwhile = seen[-1][0], [made for _, made in seen]
    assert isinstance(done, Done)
    assert len(seen) < 20
    assert made_meanwhile[-1] == 100
    # what is handed out is the step that was just made, not one from a backlog
    assert all(made - said <= 2 for said, made in seen[:-1])


@pytest.mark.parametrize("error", [ValueError("in words"), KeyError("k"), FloatingPointError("nan")])
def test_what_the_work_raised_is_raised(error):
    def work(say):
        say(1)
        raise error

    with pytest.raises(type(error)) as found:
        list(going_on(work, Halt()))
    assert found.value is error


def test_stop_ends_it_at_the_next_step():
    count, halt = [], Halt()
    work = going_on(counting(count, 10_000, 0.002), halt, pause=0.0)
    next(work)
    halt.stop()
    before = len(count)
    *_, done = work
    assert isinstance(done, Done)
    assert (done.result, done.stopped) == (None, True)
    assert len(count) - before <= 2


def test_stopped_before_it_begins_nothing_is_done():
    count, halt = [], Halt()
    halt.stop()
    (done,) = going_on(counting(count, 10), halt)
    assert isinstance(done, Done)
    assert done.stopped
    assert count == []


def test_closing_stops_it_and_waits_for_nothing():
    """Gradio closes on its event loop: a step of a second must not hold up everyone else."""
    inside, leave, count = threading.Event(), threading.Event(), []

    def work(say):
        say(0)
        inside.set()
        leave.wait(10)
        say(1)
        count.append("not stopped")

    running = going_on(work, Halt(), pause=0.0)
    next(running)
    inside.wait(10)
    began = time.perf_counter()
    running.close()
    assert time.perf_counter() - began < 0.2
    leave.set()
    time.sleep(0.05)
    assert count == []


def test_the_next_work_waits_for_the_step_of_the_last():
    running, computing, most = Running(), [], []
    leave, inside = threading.Event(), threading.Event()

    def work(say):
        computing.append(1)
        most.append(len(computing))
        try:
            say(0)
            inside.set()
            leave.wait(10)
            say(1)
        finally:
            computing.pop()

    first = going_on(work, running.begin("a", "sample"), pause=0.0)
    next(first)
    inside.wait(10)
    first.close()
    second = going_on(work, running.begin("b", "sample"), pause=0.0)
    threading.Timer(0.2, leave.set).start()
    began = time.perf_counter()
    *_, done = second
    assert time.perf_counter() - began > 0.1
    assert isinstance(done, Done)
    assert not done.stopped
    assert most == [1, 1]


def test_whoever_waits_for_his_turn_can_be_stopped():
    running, leave = Running(), threading.Event()
    first = going_on(lambda say: (say(0), leave.wait(10)), running.begin("a", "sample"), pause=0.0)
    next(first)
    halt = running.begin("b", "sample")
    threading.Timer(0.1, halt.stop).start()
    (done,) = going_on(lambda say: pytest.fail("begun"), halt)
    assert isinstance(done, Done)
    assert done.stopped
    leave.set()
    list(first)


def test_stop_reaches_the_right_one():
    running = Running()
    mine, other, kind = running.begin("a", "sample"), running.begin("b", "sample"), running.begin("a", "compare")
    assert running.stop("a", "sample") == 1
    assert (mine.stopped, other.stopped, kind.stopped) == (True, False, False)
    assert running.stop("a") == 1
    assert (other.stopped, kind.stopped, running.count) == (False, True, 1)
    later = running.begin("b", "sample")  # a second press takes the place of the first
    assert (other.stopped, later.stopped) == (True, False)
    running.end("b", "sample", other)  # the first one's end does not end the second
    assert running.count == 1
    running.end("b", "sample", later)
    assert running.count == 0
    assert running.stop("b") == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thread_of_its_own_makes_the_very_same_bytes(threads):
    """Gradients are off and the number of threads is the same there: torch keeps the first per thread, the second for the process."""
    model, before = made(), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        here, grads, counts = model.sample(range(4), [0, 1, 2, 3]).images, [], []

        def work(say):
            def watch(glimpse):
                grads.append(torch.is_grad_enabled())
                counts.append(torch.get_num_threads())

            return model.sample(range(4), [0, 1, 2, 3], watch=watch).images

        *_, done = going_on(work, Halt())
    finally:
        torch.set_num_threads(before)
    assert isinstance(done, Done)
    assert torch.equal(done.result, here)
    assert not done.result.requires_grad
    assert set(grads) == {False}
    assert set(counts) == {threads}
