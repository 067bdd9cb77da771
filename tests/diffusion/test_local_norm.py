"""Norms of parts of a gradient: those of gradients computed alone, and an exchange that is the same to the bit."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from sfumato.diffusion.local_norm import LocalNorm, square_norm

WORKER = """
import json, os
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from sfumato.diffusion.local_norm import LocalNorm

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(33, 65), nn.Tanh(), nn.Linear(65, 129), nn.Tanh(), nn.Linear(129, 1))

def loss(module, step, part=0):
    draw = torch.Generator().manual_seed(100 * step + 10 * part + rank)
    return module(torch.randn(7, 33, generator=draw)).square().mean()

def trained(view, hook, accumulated):
    # many small buckets, whose order changes after the first step
    module = DistributedDataParallel(network(), bucket_cap_mb=0.01, gradient_as_bucket_view=view)
    norm, seen = LocalNorm(), []
    if hook:
        assert norm.watch(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(3):
        alone = network()
        alone.load_state_dict(module.module.state_dict())
        optimizer.zero_grad()
        if accumulated:
            with module.no_sync():
                loss(module, step, 1).backward()
            loss(alone, step, 1).backward()
        loss(module, step).backward()
        loss(alone, step).backward()
        own = sum(float(p.grad.double().square().sum()) for p in alone.parameters())
        seen.append((float(norm.take()), own))
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()]), seen

found = {"same": [], "seen": []}
for view in (False, True):
    for accumulated in (False, True):
        plain, _ = trained(view, False, accumulated)
        hooked, seen = trained(view, True, accumulated)
        found["same"].append(torch.equal(plain, hooked))
        found["seen"] += seen
told = [None] * size
dist.all_gather_object(told, found)
if rank == 0:
    print(json.dumps(told), flush=True)
dist.barrier()
# gloo's threads now and then abort a process that ends in the usual way, with or without a hook
os._exit(0)
"""


def test_the_exchange_is_the_same_to_the_bit_and_each_process_knows_its_own_norm(tmp_path):
    """Three processes, since dividing by 3 is not multiplying by 1 / 3; with and without accumulation, and gradients that are buckets."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(script)]
    done = subprocess.run(launch, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == 3
    for found in told:
        assert found["same"] == [True] * 4
        for measured, own in found["seen"]:
            assert measured == pytest.approx(own, rel=1e-5)
    firsts = [found["seen"][0][0] for found in told]
    assert len(set(firsts)) == 3  # its own, not the average


def test_after_the_first_micro_batch_it_is_that_ones_own():
    torch.manual_seed(0)
    net, x = nn.Linear(5, 3), torch.randn(12, 5)
    (net(x[:4]).square().sum() / 12).backward()
    ours = square_norm(net.parameters(), 12 / 4)
    alone = nn.Linear(5, 3)
    alone.load_state_dict(net.state_dict())
    (net_loss := alone(x[:4]).square().sum() / 4).backward()
    assert net_loss > 0
    gradients = [p.grad for p in alone.parameters() if p.grad is not None]
    assert float(ours) == pytest.approx(sum(float(g.double().square().sum()) for g in gradients), rel=1e-6)
    assert ours.dtype == torch.float64
    net.zero_grad()
    assert float(square_norm(net.parameters())) == 0.0


def test_a_module_that_exchanges_nothing_is_left_alone():
    norm = LocalNorm()
    assert not norm.watch(nn.Linear(2, 2))
    assert float(norm.take()) == 0.0
