"""Runs in half precision go on where they were, and past an update that was left out."""

import json

import torch
from torch import nn

from sfumato.diffusion.launch import Processes


class Half:
    """Processes of fp16, with a scaler on the host."""

    def __init__(self) -> None:
        self._accelerator = self
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)

    scaling, leave_out = Processes.scaler, Processes.leave_out


def stepped(half, module, optimizer, *, make=True, x=1.0):
    optimizer.zero_grad()
    half.scaler.scale(module(torch.tensor([[x]])).sum()).backward()
    half.scaler.unscale_(optimizer)
    if not make:
        half.leave_out()
        return
    half.scaler.step(optimizer)
    half.scaler.update()


def test_the_scaler_of_half_precision_goes_on_where_it_was():
    module = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    first, then = Half(), Half()
    stepped(first, module, optimizer)
    then.scaling = json.loads(json.dumps(first.scaling))
    stepped(then, module, optimizer)
    assert (first.scaling["scale"], then.scaling["scale"]) == (8.0, 16.0)


def test_an_update_that_is_left_out_of_half_precision_lets_the_next_one_be_made():
    module = nn.Linear(1, 1)
    optimizer, half = torch.optim.SGD(module.parameters(), 0.1), Half()
    stepped(half, module, optimizer, make=False, x=float("nan"))
    before = module.weight.detach().clone()
    stepped(half, module, optimizer)
    assert half.scaling["scale"] == 4.0  # halved by what was not finite, doubled by what was
    assert not torch.equal(module.weight, before)
