"""Clocks: the numbers that networks of diffusers are told, against the timesteps of diffusers' own tables and `network_time`."""

import math

import pytest
import torch

from sfumato.diffusion.clocks import EntryClock, LogSNRClock, SigmaClock
from sfumato.samplers.network_time import network_time
from sfumato.schedules import EDM, Eps, Flow, Level, RectifiedFlow, Shifted, Table, VarianceExploding

TABLE = Table.from_betas([0.0001 + i * 2e-5 for i in range(1000)])


def test_on_a_table_it_is_network_time_and_whole_on_entries():
    told, clock = network_time(TABLE, Eps()), EntryClock(1000)
    for i in range(1000):
        assert clock(TABLE((i + 1) / 1000)) == i
    for k in range(301):
        level = TABLE(k / 300)
        assert clock(level) == told(level)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_are_told_what_floats_are(dtype):
    clock = EntryClock(1000)
    entries = (torch.arange(1000, dtype=dtype) + 1) / 1000
    assert torch.equal(clock(TABLE(entries)), torch.arange(1000, dtype=dtype))
    between = torch.linspace(0, 1, 301, dtype=dtype)
    wanted = torch.tensor([clock(TABLE(float(t))) for t in between], dtype=dtype)
    torch.testing.assert_close(clock(TABLE(between)), wanted, rtol=0, atol=2e-4)


def test_sigma_and_log_snr_are_network_time_elsewhere():
    flow = Shifted(RectifiedFlow(), 3.0)
    told, clock = network_time(flow, Flow()), SigmaClock(1000.0)
    assert all(clock(flow(k / 20)) == told(flow(k / 20)) for k in range(21))
    path = VarianceExploding(0.002, 80.0, 7.0)
    told = network_time(path, EDM(0.5))
    for k in range(1, 21):
        assert math.isclose(LogSNRClock(-0.125)(path(k / 20)), told(path(k / 20)), abs_tol=1e-12)
        assert SigmaClock(1.0)(path(k / 20)) == path(k / 20).sigma


def test_an_entry_clock_of_no_entries_is_refused():
    with pytest.raises(ValueError, match=r"EntryClock\.entries is 0"):
        EntryClock(0)
    assert EntryClock(10)(Level(0.0, 1.0, 0.0)) == 0  # data: the first entry, since there is none before
