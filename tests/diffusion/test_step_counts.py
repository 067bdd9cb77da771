"""What a training step is made of, counted: one kernel for the optimizer, one for the average, one product for queries, keys and values."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfumato.diffusion import Digits, DiT, LogSNRClock, Recipe, UNet
from sfumato.diffusion.backbones.attention import Attention
from sfumato.diffusion.interrupt import Told
from sfumato.diffusion.run import Run
from sfumato.schedules import EDM, RectifiedFlow


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["DiT", "UNet"])
def test_a_step_is_fused_where_it_can_be(tmp_path, name):
    net = (
        DiT(channels=1, size=8, num_classes=10, width=16, depth=2, heads=2) if name == "DiT"
        else UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=1, attention=(4,), head_width=8)
    )  # fmt: skip
    run = Run(
        Recipe(
            data=Digits(), backbone=net, schedule=RectifiedFlow(), row=EDM(0.75), clock=LogSNRClock(), steps=3, batch=6, warmup=1,
            threads=1, sampling_steps=2, tracker=None, ema_lengths=(0.1,), clip=1e-3,
        ), tmp_path, Told(),
    )  # fmt: skip
    times, shared = [], []
    try:
        run.backbone.train()
        run.make()  # the first one makes the optimizer's state
        run.backbone.register_forward_pre_hook(lambda module, given: times.append(given[1]))
        for module in run.backbone.modules():
            if isinstance(module, Attention):
                module.register_forward_pre_hook(
                    lambda m, given: shared.append({t.untyped_storage().data_ptr() for t in given})
                )
        with Counted() as counted:
            run.make()
    finally:
        run.close()
    assert counted.found["_fused_adamw_"] == 1
    assert counted.found["_foreach_lerp_"] == 2  # one per average, each over all tensors
    assert counted.found["_foreach_mul_"] == counted.found["_foreach_norm"] == 1  # clipping
    assert not {"addcdiv_", "addcmul_", "lerp_", "_foreach_addcdiv_"} & set(counted.found)
    assert [(t.dtype, tuple(t.shape)) for t in times] == [(torch.float32, (6,))]
    attending = [m for m in run.backbone.modules() if isinstance(m, Attention)]
    assert len(shared) == len(attending) > 0
    assert all(len(storages) == 1 for storages in shared)  # views of one product
