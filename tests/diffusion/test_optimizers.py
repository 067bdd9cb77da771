"""Optimizers as parts: what a part makes is the optimizer that it names, and its state goes through a file to the bit."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.diffusion import DiT, UNet
from sfumato.diffusion.launch import Processes
from sfumato.diffusion.optimizer import from_tensors, to_tensors
from sfumato.diffusion.optimizers import AdamW, Group, Library, Muon
from sfumato.diffusion.together import Together
from sfumato.schedules.parts import build, describe

DENSE = {
    "Adadelta": {}, "Adafactor": {}, "Adagrad": {"lr_decay": 0.1}, "Adam": {"amsgrad": True, "weight_decay": 0.1}, "AdamW": {"fused": True},
    "Adamax": {}, "ASGD": {"t0": 2, "lambd": 0.1}, "NAdam": {}, "RAdam": {}, "RMSprop": {"momentum": 0.5, "centered": True}, "Rprop": {},
    "SGD": {"momentum": 0.9, "nesterov": True}, "Muon": {},
}  # fmt: skip


class Net(nn.Module):
    """An embedding, two hidden layers, a norm, a convolution and a head; `tied`: the head's weight is the embedding's."""

    def __init__(self, tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(5, 6)
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 6)])
        self.norm = nn.LayerNorm(6)
        self.conv = nn.Conv1d(1, 1, 3, padding=1)
        self.own = nn.Parameter(torch.randn(6, 6) / 3)
        self.head = nn.Linear(6, 5)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, index):
        h = self.embed(index) @ self.own
        h = self.layers[1](torch.tanh(self.layers[0](h)))
        return self.head(self.conv(self.norm(h)[:, None])[:, 0])


class Matrices(nn.Sequential):
    """Matrices only, for torch's Muon alone."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False))


def rate(step):
    return 0.05 / (1 + step)


def steps(module, optimizer, first, last, head=None):
    """Steps first to last - 1 on gradients that are a function of the step, rates set as the trainer does."""
    for step in range(first, last):
        g = torch.Generator().manual_seed(step)
        for p in [*module.parameters(), *(head.parameters() if head else [])]:
            p.grad = torch.randn(p.shape, generator=g)
        for group in optimizer.param_groups:
            group["lr"] = rate(step) * group.get("lr_scale", 1.0)
        optimizer.step()


def weights(*modules):
    return [p.detach().clone() for m in modules for p in m.parameters()]


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def kinds(optimizer, module):
    """What is kept of each parameter, and as what."""
    return {
        f"{n}/{k}": (type(v), getattr(v, "dtype", None), getattr(v, "device", None), getattr(v, "shape", None))
        for n, p in module.named_parameters()
        for k, v in optimizer.state[p].items()
    }


def resumed(make, part, path, k=4):
    """The weights after k steps, a file, a new network and optimizer, and k steps more; and what the file held."""
    module = make()
    optimizer = part([Group.of(module)])
    steps(module, optimizer, 0, k)
    # as a checkpoint does it
    save_file({n: v.detach().to("cpu", copy=True).contiguous() for n, v in to_tensors(optimizer, module).items()}, path)
    again = make()
    again.load_state_dict(module.state_dict())
    other = part([Group.of(again)])
    from_tensors(other, again, load_file(path))
    assert kinds(other, again) == kinds(optimizer, module)
    steps(again, other, k, 2 * k)
    return weights(again), load_file(path)


@pytest.mark.parametrize("name", DENSE)
def test_every_dense_optimizer_of_torch_goes_on_to_the_bit(name, tmp_path):
    part, make = Library(getattr(torch.optim, name), DENSE[name]), Matrices if name == "Muon" else Net
    straight = make()
    steps(straight, part([Group.of(straight)]), 0, 8)
    found, _ = resumed(make, part, tmp_path / "state.safetensors")
    assert equal(found, weights(straight))
    # and the state matters: without it the weights are others
    module = make()
    for first in (0, 4):
        steps(module, part([Group.of(module)]), first, first + 4)
    assert not equal(weights(module), weights(straight))


@pytest.mark.parametrize("rest", [AdamW(), Library(torch.optim.NAdam)], ids=str)
def test_muon_goes_on_to_the_bit(rest, tmp_path):
    straight, part = Net(), Muon(rest=rest)
    steps(straight, part([Group.of(straight)]), 0, 8)
    assert equal(resumed(Net, part, tmp_path / "state.safetensors")[0], weights(straight))


def test_all_of_torch_is_either_tried_here_or_refused():
    classes = {n for n in torch.optim.__all__ if isinstance(getattr(torch.optim, n), type)}
    assert classes == {*DENSE, "LBFGS", "SparseAdam", "Optimizer"}
    for name, why in {"LBFGS": "again and again", "SparseAdam": "sparse gradients", "Optimizer": "not one"}.items():
        with pytest.raises(ValueError, match=f"^{name} .*{why}"):
            Library(getattr(torch.optim, name))


class Counting(torch.optim.Optimizer):
    """Counts in Python numbers, in its group and in a table that all parameters share, as foreign optimizers do; each must be right."""

    def __init__(self, params, lr, weight_decay=0.0, sign=1):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "sign": sign, "k": 0, "warm": True})
        self.table = torch.arange(4, dtype=torch.uint8)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            group["d"] = group.get("d", 1.0) * 0.9
            group["warm"] = group["k"] < 3
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, scale=0.5, odd=False, skipped=None, table=self.table, m=torch.zeros(4))
                assert type(state["step"]) is int
                assert type(state["scale"]) is float
                assert type(state["odd"]) is bool
                assert state["table"].dtype == torch.uint8
                state["step"] += 1
                state["scale"] *= 0.7
                state["odd"] = not state["odd"]
                state["skipped"] = None if state["odd"] else torch.ones(())
                state["m"] += 1
                size = state["step"] * state["scale"] * group["d"] * group["k"] + group["warm"] + state["m"].sum()
                p.add_(p.grad, alpha=-group["lr"] * float(size + (0 if state["skipped"] is None else 5)))


@pytest.mark.parametrize("k", [3, 4])
def test_numbers_none_and_what_a_group_counts_go_on_to_the_bit(k, tmp_path):
    straight, part = Net(), Library(Counting)
    steps(straight, part([Group.of(straight)]), 0, 2 * k)
    found, held = resumed(Net, part, tmp_path / "state.safetensors", k)
    assert equal(found, weights(straight))
    assert {n for n in held if n.startswith("/")} == {"/0/k:int", "/0/d:float", "/0/warm:bool"}
    kinds = {"step:int", "scale:float", "odd:bool", "table", "m", "skipped" + ("" if k == 4 else ":none")}
    assert {n.rpartition("/")[2] for n in held if n.startswith("conv.bias/")} == kinds


def test_states_of_a_head_are_apart_and_groups_are_counted_per_module():
    module, head = Matrices(), nn.Linear(3, 1)
    optimizer = Library(Counting)([Group.of(module), Group.of(head, decay=False)])
    steps(module, optimizer, 0, 2, head)
    own, other = to_tensors(optimizer, module), to_tensors(optimizer, head)
    assert {n.split("/")[0] for n in own} == {"", "0.weight", "2.weight"}
    assert {n.split("/")[0] for n in other} == {"", "weight", "bias"}
    optimizer.param_groups[1]["k"] = 7
    from_tensors(optimizer, head, other)
    assert [g["k"] for g in optimizer.param_groups] == [2, 2]


def test_what_can_not_be_saved_and_what_does_not_belong_is_refused():
    module = Matrices()
    optimizer = AdamW()([Group.of(module)])
    for key, value, message in [
        ("history", [1], "keeps a list as 'history'"),
        ("n", 2**70, "keeps 'n' = .* beyond 64 bits"),
        ("a/b", 1, "named 'a/b'"),
        (3, 1, "named 3"),
    ]:
        optimizer.state[module[0].weight] = {key: value}
        with pytest.raises(ValueError, match=f"AdamW keeps .*{message.removeprefix('keeps ')}"):
            to_tensors(optimizer, module)
    for name in ("1.weight/step", "/1/k:int"):
        with pytest.raises(ValueError, match="which the network does not have"):
            from_tensors(optimizer, module, {name: torch.zeros(())})
    with pytest.raises(ValueError, match="a kind that this version does not know"):
        from_tensors(optimizer, module, {"0.weight/step:complex": torch.zeros(())})


def test_adamw_is_what_recipes_were_trained_with():
    """The same weights to the bit, and the same names in a checkpoint, as the trainer's own construction."""
    module, head, other, other_head = Net(), nn.Linear(3, 1), Net(), nn.Linear(3, 1)
    other_head.load_state_dict(head.state_dict())
    old = torch.optim.AdamW(
        [{"params": list(other.parameters())}, {"params": list(other_head.parameters()), "weight_decay": 0.0}],
        lr=2e-4, betas=(0.9, 0.99), weight_decay=0.03, fused=True,
    )  # fmt: skip
    new = AdamW(weight_decay=0.03)([Group.of(module), Group.of(head, decay=False)])
    steps(module, new, 0, 5, head)
    steps(other, old, 0, 5, other_head)
    assert equal(weights(module, head), weights(other, other_head))
    for ours, theirs in ((module, other), (head, other_head)):
        state = to_tensors(new, ours)
        assert state.keys() == to_tensors(old, theirs).keys()
        assert state.keys() == {
            f"{n}/{k}" for n, _ in ours.named_parameters() for k in ("step", "exp_avg", "exp_avg_sq")
        }
        assert all(torch.equal(v, to_tensors(old, theirs)[n]) for n, v in state.items())


def test_a_restored_state_has_the_parameters_layout_and_is_nobody_elses():
    net = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimizer = AdamW()([Group.of(net)])
    net(torch.randn(1, 4, 5, 5).contiguous(memory_format=torch.channels_last)).sum().backward()
    optimizer.step()
    saved = {k: v.clone(memory_format=torch.contiguous_format) for k, v in to_tensors(optimizer, net).items()}
    other = AdamW()([Group.of(net)])
    from_tensors(other, net, saved)
    assert other.state[net.weight]["exp_avg"].stride() == net.weight.stride()
    other.state[net.bias]["step"].add_(1)
    other.state[net.bias]["exp_avg"].add_(1)
    assert saved["bias/step"] == 1
    assert torch.equal(saved["bias/exp_avg"], optimizer.state[net.bias]["exp_avg"])


def test_muon_moves_hidden_matrices_and_nothing_else():
    net, part = Net(), Muon()
    assert part.hidden(Group.of(net)) == ["layers.0.weight", "layers.1.weight"]
    tied = Group.of(Net(tied=True))
    assert Muon(skip=()).hidden(tied) == ["layers.0.weight", "layers.1.weight"]  # the head's is an embedding, too
    assert Muon(skip=()).hidden(Group.of(net)) == ["layers.0.weight", "layers.1.weight", "head.weight"]
    assert Muon(skip=["1"]).hidden(Group.of(net)) == ["layers.0.weight", "head.weight"]
    assert part.hidden(Group.of(net, decay=False)) == []
    dit = DiT(channels=1, size=8, num_classes=3, patch=4, width=8, depth=1, heads=2)
    inside = ["modulation", "qkv", "out", "mlp_in", "mlp_out"]
    assert part.hidden(Group.of(dit)) == [*(f"layers.0.{n}.weight" for n in inside), "modulation.weight"]
    unet = UNet(channels=1, size=8, num_classes=3, width=8, multipliers=(1, 2), blocks=1, attention=(8,))
    assert part.hidden(Group.of(unet)) == ["modulation.weight"]
    with pytest.raises(ValueError, match=re.escape("none besides condition, embed, head; set optimizer: AdamW")):
        part([Group.of(nn.Conv2d(3, 3, 3))])


def test_muon_is_torchs_muon_beside_adamw():
    """Each parameter moves as under its own optimizer alone: to the bit, and with no decay where a group has none."""
    net, alone, head, head_alone = Net(), Net(), nn.Linear(3, 1), nn.Linear(3, 1)
    head_alone.load_state_dict(head.state_dict())
    both = Muon(0.9, weight_decay=0.1, lr_scale=3.0, rest=AdamW(weight_decay=0.2))
    steps(net, both([Group.of(net), Group.of(head, decay=False)]), 0, 4, head)
    hidden = [m.weight for m in alone.layers]
    muon = torch.optim.Muon(hidden, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    muon.param_groups[0]["lr_scale"] = 3.0
    rest = [p for p in alone.parameters() if all(p is not h for h in hidden)]
    groups = [{"params": rest}, {"params": list(head_alone.parameters()), "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.2, fused=True)
    for step in range(4):
        before = weights(alone, head_alone)
        steps(alone, muon, step, step + 1, head_alone)
        # `steps` draws the same gradients again
        steps(alone, adam, step, step + 1, head_alone)
        assert not equal(before, weights(alone, head_alone))
    assert equal(weights(net, head), weights(alone, head_alone))


def test_muons_step_is_orthogonal():
    """The first step of a matrix with singular values s is U f(s) V^T: f(s) within the published range of the iteration, whatever s."""
    g = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 8, generator=g, dtype=torch.float64))[0] for n in (12, 8))
    s = torch.logspace(-1, 1, 8, dtype=torch.float64)
    net = nn.ModuleList([nn.Linear(8, 12, bias=False)])
    before = net[0].weight.detach().clone()
    optimizer = Muon(momentum=0.0, nesterov=False)([Group.of(net)])
    net[0].weight.grad = (u @ s.diag() @ v.T).float()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    # match_rms_adamw: 0.2 sqrt(larger side)
    step = u.T @ ((before - net[0].weight.detach()).double() / (0.01 * 0.2 * 12**0.5)) @ v
    # the iteration runs in bfloat16, 8 bits
    assert (step - step.diag().diag()).abs().max() < 0.05
    assert 0.5 < step.diag().min() < step.diag().max() < 1.5


def test_optimizers_that_step_together_are_one_for_whoever_holds_them():
    """A state dict in and out, as Accelerate does it, changes nothing; rates, groups and state are the parts' own."""
    net, plain = Net(), Net()
    part = Muon(rest=Library(torch.optim.NAdam))
    optimizer, reference = part([Group.of(net)]), part([Group.of(plain)])
    assert isinstance(optimizer, Together)
    (module,), prepared = Processes("fp32").prepare([net], optimizer)
    assert module is net
    steps(net, prepared, 0, 3)
    optimizer.load_state_dict(optimizer.state_dict())
    steps(net, optimizer, 3, 6)
    steps(plain, reference, 0, 6)
    assert equal(weights(net), weights(plain))
    first = 0
    for inner in optimizer.optimizers:
        assert inner.state is optimizer.state
        for group in inner.param_groups:
            assert group is optimizer.param_groups[first]
            first += 1
    assert first == len(optimizer.param_groups) == 2
    with pytest.raises(ValueError, match="can't be added to optimizers that step together"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(ValueError, match="more than one parameter group"):
        Together([AdamW()([Group.of(net)]), AdamW()([Group.of(net)])])


def test_a_state_made_at_once_is_shared_too():
    """Adagrad fills its state when it is made."""
    net = Net()
    optimizer = Muon(rest=Library(torch.optim.Adagrad))([Group.of(net)])
    assert optimizer.state[net.own]["sum"].shape == net.own.shape
    steps(net, optimizer, 0, 1)
    assert (optimizer.state[net.own]["sum"] > 0).all()


@pytest.mark.parametrize(
    "part", [AdamW(0.8), Muon(skip=["a"]), Muon(rest=Library(torch.optim.RAdam)), Library(torch.optim.SGD, {"momentum": 1})], ids=str
)  # fmt: skip
def test_a_part_is_its_description(part):
    assert build(describe(part)) == part


def test_a_library_is_described_as_its_class():
    described = describe(Library(torch.optim.RAdam, {"betas": [0.9, 0.95]}))
    assert described["class_path"] == "torch.optim.RAdam"
    assert described["init_args"]["betas"] == [0.9, 0.95]
    assert described["init_args"]["eps"] == 1e-8  # complete, whatever a later version's default is
    assert build({"class_path": "torch.optim.RAdam"}) == Library(torch.optim.RAdam)


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (torch.optim.NAdam, {"beta": 1}, "NAdam takes no 'beta'; allowed: betas, eps.*; did you mean betas"),
        (torch.optim.NAdam, {"lr": 1}, "the learning rate is the recipe's"),
        (torch.optim.NAdam, {"params": []}, "NAdam takes no 'params'"),
        (torch.optim.NAdam, {"betas": [0.9, 2]}, "NAdam: Invalid beta parameter at index 1"),
        (torch.optim.NAdam, {"betas": 3}, "NAdam: "),
    ],
)
def test_arguments_are_checked_before_there_are_parameters(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        Library(cls, arguments)


def test_torchs_muon_alone_says_which_part_to_use():
    with pytest.raises(ValueError, match=r"Muon: .*the part Muon gives it matrices"):
        Library(torch.optim.Muon)([Group.of(Net())])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(beta1=1.0), "AdamW.beta1 is 1.0; allowed: 0 <= beta1 < 1"),
        (lambda: AdamW(weight_decay=-1), "AdamW.weight_decay is -1"),
        (lambda: AdamW(eps=0), "AdamW.eps is 0"),
        (lambda: Muon(momentum=1), "Muon.momentum is 1"),
        (lambda: Muon(iterations=100), "Muon.iterations is 100; allowed: a whole number, 1 to 99"),
        (lambda: Muon(adjust_lr="none"), "Muon.adjust_lr is 'none'; allowed: match_rms_adamw, original"),
        (lambda: Muon(lr_scale=0), "Muon.lr_scale is 0"),
        (lambda: Muon(skip="head"), "Muon.skip is 'head'"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
