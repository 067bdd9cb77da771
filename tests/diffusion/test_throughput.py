"""Images per second on a clock that is told, and memory that grows by what is held."""

import torch

from sfumato.diffusion.throughput import Meter, peak_memory


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_first_step_and_pauses_do_not_count():
    clock = Clock()
    meter = Meter(clock=clock)
    assert meter.take().images_per_second is None
    clock.now += 50  # the first step warms up
    meter.add(64)
    assert meter.take().images_per_second is None
    for _ in range(4):
        clock.now += 2
        meter.add(64)
    with meter.paused():
        clock.now += 1000
    assert meter.take().images_per_second == 64 / 2
    clock.now += 4
    meter.add(64)
    assert meter.take().images_per_second == 64 / 4  # another window
    assert meter.take().images_per_second is None


def test_a_pause_before_the_first_step_is_no_matter():
    clock = Clock()
    meter = Meter(clock=clock)
    with meter.paused():
        clock.now += 10
    meter.add(8)
    clock.now += 2
    meter.add(8)
    assert meter.take().images_per_second == 4


def test_memory_is_the_most_that_was_held():
    before = peak_memory(torch.device("cpu"))
    assert before is not None
    held = torch.ones(2**26)  # 256 MiB, touched
    after = peak_memory(torch.device("cpu"))
    assert after is not None
    assert 0 <= after - before <= 300
    assert after >= 256
    del held
    assert peak_memory(torch.device("cpu")) > after - 8  # the kernel counts in batches
