"""The state of a module, asked for at every step: that of its state dict, whatever the module is."""

import torch
from torch import nn

from sfumato.diffusion.present import Present


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = self.one
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("kept", torch.ones(1))
        self.register_buffer("passing", torch.ones(1), persistent=False)
        self.scale = nn.Parameter(torch.ones(1))


class Renaming(nn.Linear):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "doubled"] = 2 * self.weight.detach()


def same(present, module):
    found, expected = present(module), module.state_dict()
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].data_ptr() == value.data_ptr() or key.endswith("doubled"), key
        assert torch.equal(found[key], value)


def test_it_is_the_state_dict_also_after_what_changes_it():
    module = Shared()
    present = Present(module)
    same(present, module)
    module.kept = torch.full((1,), 5.0)  # another tensor, not other numbers
    module.scale = nn.Parameter(torch.zeros(1))
    module.norm(torch.randn(4, 2))
    same(present, module)
    same(present, Shared())


def test_layers_that_say_for_themselves_what_their_state_is_are_asked():
    module = nn.Sequential(Renaming(2, 2), nn.ReLU())
    present = Present(module)
    with torch.no_grad():
        module[0].weight += 1
    same(present, module)
    assert "0.doubled" in present(module)
