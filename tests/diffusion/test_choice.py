"""precision and memory_format: what auto comes to is kept; channels_last survives averages, checkpoints, a resume and sampling."""

import json

import pytest
import torch
from torch import nn

from sfumato.diffusion import Digits, DiT, LogSNRClock, Recipe, UNet, choice, load, train
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.choice import chosen_memory_format, computes_in, settle, words
from sfumato.diffusion.interrupt import Told
from sfumato.diffusion.memory_format import set_memory_format
from sfumato.diffusion.replay import replay
from sfumato.diffusion.run import Run
from sfumato.schedules import EDM, RectifiedFlow


def unet(**changes):
    torch.manual_seed(0)
    net = UNet(
        channels=1,
        size=8,
        num_classes=10,
        width=16,
        multipliers=(1, 2),
        blocks=1,
        attention=(4,),
        head_width=16,
        **changes,
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def recipe(net=None, **changes):
    values = {
        "data": Digits(), "backbone": net or unet(), "schedule": RectifiedFlow(), "row": EDM(0.75), "clock": LogSNRClock(), "steps": 4,
        "batch": 8, "warmup": 1, "threads": 1, "sampling_steps": 2, "save_every": 2, "keep": 9, "tracker": None,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def last(tensor):
    """Whether channels lie side by side, for a weight where that says something."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def convolutions(tensors):
    return [t for t in tensors if t.ndim == 4 and t.shape[1] > 1 and t.shape[2] > 1]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def weights(folder, name="model"):
    return newest(folder / "checkpoints").tensors(name)


def pretend(monkeypatch, fastest):
    """Passes of a time that is known, so that nothing here depends on the machine."""
    asked = []

    def measured(recipe, processes, count, precision, memory_format):
        asked.append((precision, memory_format))
        return 1.0 if f"{precision} {memory_format}" == fastest else 2.0

    monkeypatch.setattr(choice, "_pass", measured)
    return asked


def test_channels_last_computes_the_same_and_is_kept_by_all_that_follows(tmp_path):
    """Weights, average and moments lie so; the checkpoint is contiguous; sampling and a resumed run find it again, to the bit."""
    net, again = unet(), unet()
    set_memory_format(again, "channels_last")
    x, time = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.rand(4)
    torch.testing.assert_close(net(x, time), again(x, time), atol=1e-4, rtol=1e-4)
    assert all(map(last, convolutions(again.parameters())))
    set_memory_format(again, "contiguous")
    assert all(p.is_contiguous() for p in again.parameters())

    made = recipe(memory_format="channels_last")
    train(made, tmp_path / "a", progress=False)
    assert all(v.is_contiguous() for v in weights(tmp_path / "a").values())
    train(recipe(), tmp_path / "plain", progress=False)
    a, plain = weights(tmp_path / "a"), weights(tmp_path / "plain")
    assert max(float((a[k] - plain[k]).abs().max()) for k in a) < 1e-4

    (tmp_path / "a" / "checkpoints" / "step-000000004").rename(tmp_path / "kept")
    run = Run(made, tmp_path / "a", Told())
    try:
        run.claim(resume=True, other_data=False)
        run.make()
        state = [v["exp_avg"] for v in run.optimizer.state.values()]
        for tensors in (run.backbone.parameters(), run.averages.exponential.state.values(), state):
            found = convolutions(list(tensors))
            assert found
            assert all(map(last, found))
        with run.averages.swapped(run.backbone):  # as previews do
            assert all(map(last, convolutions(run.backbone.parameters())))
    finally:
        run.close()
    train(made, tmp_path / "a", resume=True, progress=False)
    assert same(weights(tmp_path / "a"), a)

    model = load(tmp_path / "a")
    assert all(map(last, convolutions(model.denoiser.parameters())))
    assert not any(map(last, load(tmp_path / "plain").denoiser.parameters()))


def test_what_was_measured_once_is_kept_by_a_resume(tmp_path, monkeypatch):
    """And never measured again, even where another one would now be faster; the run is that of the choice by name, to the bit."""
    asked = pretend(monkeypatch, "bf16 channels_last")
    made = recipe(precision="auto", memory_format="auto")
    train(made, tmp_path / "a", progress=False)
    assert set(asked) == {(p, f) for p in ("fp32", "bf16") for f in ("contiguous", "channels_last")}
    first = json.loads((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0
    assert (first["chosen"]["precision"], first["chosen"]["memory_format"]) == ("bf16", "channels_last")
    train(recipe(precision="bf16", memory_format="channels_last"), tmp_path / "named", progress=False)
    a = weights(tmp_path / "a")
    assert same(a, weights(tmp_path / "named"))

    asked = pretend(monkeypatch, "fp32 contiguous")
    assert replay(made, tmp_path / "a", 2, progress=False).differences == ()
    (tmp_path / "a" / "checkpoints" / "step-000000004").rename(tmp_path / "kept")
    train(made, tmp_path / "a", resume=True, progress=False)
    assert same(weights(tmp_path / "a"), a)
    assert asked == []
    assert any(map(last, load(tmp_path / "a").denoiser.parameters()))
    with pytest.raises(ValueError, match="precision was auto, is fp32"):
        train(recipe(memory_format="auto"), tmp_path / "a", resume=True, progress=False)


@pytest.mark.parametrize(("fastest", "kept"), [("bf16 contiguous", "bf16"), ("none of them", "fp32")])
def test_the_plain_one_is_left_only_for_one_that_is_faster(tmp_path, monkeypatch, fastest, kept):
    pretend(monkeypatch, fastest)
    run = Run(recipe(precision="auto"), tmp_path, Told())
    try:
        assert run.choice["precision"] == run.recipe.precision == kept
        assert run.asked_for.precision == "auto"
        assert list(run.choice["seconds"]) == ["fp32 contiguous", "bf16 contiguous"]
        assert f"precision {kept}, memory format contiguous, the fastest here" in words(run.choice)
    finally:
        run.close()


def test_measuring_leaves_everything_as_it_was_and_a_run_on_fp32_is_that_run(tmp_path, monkeypatch):
    """With dropout, which draws from the global generator: the real passes are made, and only their times are pretended."""
    own = choice._pass
    monkeypatch.setattr(choice, "_pass", lambda *given: own(*given) * 0.0 + 1 + (given[3:] != ("fp32", "contiguous")))
    train(recipe(unet(dropout=0.3)), tmp_path / "named", progress=False)
    train(recipe(unet(dropout=0.3), precision="auto", memory_format="auto"), tmp_path / "auto", progress=False)
    for name in ("model", "ema"):
        assert same(weights(tmp_path / "named", name), weights(tmp_path / "auto", name))


def test_a_candidate_that_fails_is_none_and_a_network_without_convolutions_has_one_format(tmp_path, monkeypatch):
    def broken(recipe, processes, count, precision, memory_format):
        if precision == "bf16":
            raise RuntimeError("not implemented for 'BFloat16'")
        return 1.0

    monkeypatch.setattr(choice, "_pass", broken)
    net = DiT(channels=1, size=8, num_classes=10, width=16, depth=1, heads=2)
    run = Run(recipe(net, precision="auto", memory_format="auto"), tmp_path, Told())
    try:
        assert run.choice == {"precision": "fp32", "memory_format": "contiguous", "seconds": {"fp32 contiguous": 1.0}}
    finally:
        run.close()
    with pytest.raises(
        ValueError, match="DiT has no convolutions in two or three dimensions; set memory_format: contiguous, or auto"
    ):
        train(recipe(net, memory_format="channels_last"), tmp_path / "b", progress=False)


def test_what_can_be_said_and_what_older_checkpoints_mean():
    assert settle(recipe(precision="auto"), None).precision == "fp32"
    assert settle(recipe(precision="bf16"), {"precision": "fp32", "memory_format": "channels_last"}).precision == "bf16"
    assert computes_in("auto") == torch.float32
    assert chosen_memory_format({}) == chosen_memory_format({"recipe": {"seed": 1}}) == "contiguous"
    assert chosen_memory_format({"recipe": {"memory_format": "channels_last"}}) == "channels_last"
    with pytest.raises(ValueError, match="precision is 'half'; allowed: fp32, bf16, fp16, fp64, auto"):
        recipe(precision="half")
    with pytest.raises(ValueError, match="memory_format is 'nhwc'; allowed: contiguous, channels_last, auto"):
        recipe(memory_format="nhwc")
    with pytest.raises(
        ValueError, match=r"precision is 'auto' and parallel is 'fsdp'.*memory_format is 'auto' and parallel is 'fsdp'"
    ):
        recipe(parallel="fsdp", precision="auto", memory_format="auto")
