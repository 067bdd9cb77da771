"""Training: resumed runs are the same run, micro-batches and processes change nothing, refusals come before the first step."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
import yaml

from sfumato.diffusion import Digits, Interrupted, LogSNRClock, Recipe, TimeClock, UNet, load, train
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.draws import DataOrder, Drawing
from sfumato.diffusion.ema import Ema
from sfumato.diffusion.plan import check_recipe, learning_rate, plan_batches
from sfumato.diffusion.report import report
from sfumato.guidance import CFG, Interval
from sfumato.schedules import (
    EDM,
    Cosine,
    Eps,
    LogNormal,
    PairingError,
    RectifiedFlow,
    Stream,
    Truncated,
    Uniform,
    V,
    gaussian,
    uniform,
)


def recipe(**changes):
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=1, attention=(), dropout=0.1)
    values = {
        "data": Digits(), "backbone": net, "schedule": RectifiedFlow(), "row": EDM(0.75), "clock": LogSNRClock(),
        "density": LogNormal(-0.8, 1.2), "steps": 12, "batch": 16, "lr": 2e-3, "warmup": 3, "ema": 0.9, "threads": 1, "log_every": 4,
        "sampling_steps": 3,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def tensors(folder):
    found = newest(folder / "checkpoints")
    return found.step, {f"{n}/{k}": v for n in ("model", "ema", "optimizer") for k, v in found.tensors(n).items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 12 steps."""
    folder = tmp_path_factory.mktemp("whole")
    train(recipe(), folder, progress=False)
    return folder


def test_a_resumed_run_is_the_same_run(whole, tmp_path):
    """Stopped at 5 and at 9, resumed with other global randomness, dropout on: equal to the last bit."""
    for stop in (5, 9, 12):
        torch.manual_seed(stop)
        torch.rand(stop)
        train(recipe(steps=12), tmp_path, resume=True, progress=False) if stop == 12 else _stopped_at(stop, tmp_path)
    step, state = tensors(tmp_path)
    assert step == 12
    assert same(state, tensors(whole)[1])
    logged = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged))


def _stopped_at(stop, folder):
    """Run until a signal arrives in step `stop`."""
    source = Digits()
    seen = []

    class Stopping:
        shape, num_classes, fingerprint = source.shape, source.num_classes, source.fingerprint

        def __len__(self):
            return len(source)

        def batch(self, index):
            if len(index) == 16:  # a batch of training, not a look at the data before it
                seen.append(index)
            if base + len(seen) == stop:
                os.kill(os.getpid(), signal.SIGINT)
            return source.batch(index)

    found = newest(folder / "checkpoints")
    base = found.step if found else 0
    with pytest.MonkeyPatch.context() as patch:
        r = recipe()
        described = r.describe()
        patch.setattr(type(r), "describe", lambda self: described)
        object.__setattr__(r, "data", Stopping())
        with pytest.raises(Interrupted, match=rf"stopped at step {stop} of 12"):
            train(r, folder, resume=True, progress=False)


def test_micro_batches_change_nothing_but_rounding(whole, tmp_path):
    train(recipe(micro_batch=5, backbone=_plain_net()), tmp_path / "a", progress=False)
    train(recipe(backbone=_plain_net()), tmp_path / "b", progress=False)
    a, b = tensors(tmp_path / "a")[1], tensors(tmp_path / "b")[1]
    worst = max(float((a[k] - b[k]).abs().max()) for k in a if k.startswith("model/"))
    assert worst < 1e-4


def _plain_net():
    torch.manual_seed(0)
    return UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=1, attention=())


TWO = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_trainer import recipe, _plain_net
from sfumato.diffusion import train
train(recipe(backbone=_plain_net(), steps=6), {folder!r}, progress=False)
"""


def test_two_processes_are_one_process_with_two_micro_batches(tmp_path):
    """Bit for bit: the same draws by address, gradients summed over halves either way."""
    script = tmp_path / "two.py"
    script.write_text(TWO.format(tests=os.path.dirname(__file__), folder=str(tmp_path / "two")))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517", str(script)],
        check=True, env=env, timeout=300,
    )  # fmt: skip
    train(recipe(backbone=_plain_net(), steps=6, micro_batch=8), tmp_path / "one", progress=False)
    one, two = tensors(tmp_path / "one")[1], tensors(tmp_path / "two")[1]
    assert one.keys() == two.keys()
    assert max(float((one[k] - two[k]).abs().max()) for k in one) == 0.0


def test_a_run_folder_holds_what_it_says(whole):
    assert (whole / "config.yaml").is_file()
    assert yaml.safe_load((whole / "config.yaml").read_text()) == recipe().describe()
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(sum(line["buckets"]["count"]) == 4 * 16 for line in lines)
    assert list((whole / "tensorboard").rglob("events.out.*"))
    assert not list(whole.rglob("*.pkl")) + list(whole.rglob("*.bin")) + list(whole.rglob("*.pt"))


def test_previews_use_the_average_and_give_the_weights_back(tmp_path):
    r = recipe(steps=4, sample_every=2)
    train(r, tmp_path / "previews", progress=False)
    assert len(list((tmp_path / "previews" / "samples").glob("step-*.png"))) == 2
    r = recipe(steps=4)
    train(r, tmp_path / "none", progress=False)
    assert same(tensors(tmp_path / "previews")[1], tensors(tmp_path / "none")[1])


def test_loss_falls(tmp_path):
    train(recipe(steps=60, lr=8e-3, batch=64, log_every=15), tmp_path, progress=False)
    found = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert found[-1] < 0.7 * found[0]


def test_refusals_before_the_first_step(whole, tmp_path):
    with pytest.raises(ValueError, match="holds a run already"):
        train(recipe(), whole, progress=False)
    with pytest.raises(ValueError, match=r"can't be resumed under another recipe: lr was 0.002, is 0.5"):
        train(recipe(lr=0.5), whole, resume=True, progress=False)
    with pytest.raises(PairingError, match="v-prediction"):
        train(recipe(schedule=Cosine(), row=Eps()), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"set backbone.channels: 1, backbone.size: 8"):
        train(
            recipe(backbone=UNet(channels=3, size=8, num_classes=10, width=8, attention=())), tmp_path, progress=False
        )
    with pytest.raises(ValueError, match=r"set backbone.num_classes: 10, or 0"):
        train(recipe(backbone=UNet(channels=1, size=8, num_classes=7, width=8, attention=())), tmp_path, progress=False)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match="can't be written"):
        train(recipe(), blocked / "run", progress=False)


class Poisoned(Digits):
    """The third sample of every batch holds nan, once three steps have been made."""

    def batch(self, index):
        batch = super().batch(index)
        object.__setattr__(self, "count", getattr(self, "count", 0) + (len(index) == 16))
        if self.count > 3:
            batch.x[2] = torch.nan
            object.__setattr__(self, "culprit", int(index[2]))
        return batch


def test_a_loss_that_is_not_finite_makes_no_update(tmp_path):
    """The steps before it are kept, the samples named, and the average stays finite."""
    data = Poisoned()
    with pytest.raises(FloatingPointError, match=r"step 3: the loss is nan.*no update was made") as caught:
        train(recipe(data=data), tmp_path / "poisoned", progress=False)
    assert f"by themselves: samples {data.culprit} of process 0." in str(caught.value)
    step, found = tensors(tmp_path / "poisoned")
    assert step == 3
    assert all(torch.isfinite(v).all() for v in found.values())
    # warm-up and rate follow the step, so three good steps are the first three of any run
    _stopped_at(3, tmp_path / "good")
    assert same(found, tensors(tmp_path / "good")[1])


def test_an_error_of_the_data_keeps_the_steps_before_it(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        train(recipe(data=Failing()), tmp_path, progress=False)
    assert tensors(tmp_path)[0] == 2


class Failing(Digits):
    def batch(self, index):
        object.__setattr__(self, "count", getattr(self, "count", 0) + (len(index) == 16))
        if self.count > 2:
            raise OSError("the disk is gone")
        return super().batch(index)


def test_what_the_guidance_asks_for_is_checked_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match="a recipe has no branch 'weak'"):
        train(
            recipe(guidance=Interval(CFG(2.0, against="weak"), 0.1, 1.0), sampling_steps=20), tmp_path, progress=False
        )


def test_a_class_that_could_not_be_loaded_again_is_refused(tmp_path):
    class Local(Digits):
        pass

    with pytest.raises(ValueError, match="can't be imported"):
        train(recipe(data=Local()), tmp_path, progress=False)


def test_resuming_a_longer_run_warns_and_a_shorter_one_is_refused(whole, tmp_path):
    train(recipe(steps=4), tmp_path, progress=False)
    with pytest.warns(UserWarning, match="learning rate follows the new length"):
        train(recipe(steps=6), tmp_path, resume=True, progress=False)
    assert tensors(tmp_path)[0] == 6
    with pytest.raises(ValueError, match="has done 6"):
        train(recipe(steps=5), tmp_path, resume=True, progress=False)


def test_a_log_line_left_half_by_a_kill_does_not_block_a_resume(tmp_path):
    train(recipe(steps=4), tmp_path, progress=False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with pytest.warns(UserWarning, match="new length"):
        train(recipe(steps=8), tmp_path, resume=True, progress=False)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [4, 8]


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_over(tmp_path):
    train(recipe(steps=2), tmp_path, progress=False)
    for path in (tmp_path / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(b"damaged")
    with (
        pytest.raises(ValueError, match=r"no checkpoint in .* is valid"),
        pytest.warns(UserWarning, match="is skipped"),
    ):
        train(recipe(steps=2), tmp_path, resume=True, progress=False)


def test_a_preview_that_fails_is_a_warning(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise FloatingPointError("diverged")

    monkeypatch.setattr("sfumato.diffusion.trainer.Model.sample", fail)
    with pytest.warns(UserWarning, match="no preview at step 2: diverged"):
        train(recipe(steps=2, sample_every=2), tmp_path, progress=False)
    assert tensors(tmp_path)[0] == 2


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(train(recipe(steps=2), tmp_path, progress=False)))
    thread.start()
    thread.join()
    assert len(done) == 1


def test_precision_bf16_runs_and_learns(tmp_path):
    train(recipe(steps=30, lr=8e-3, precision="bf16", log_every=10), tmp_path, progress=False)
    found = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert found[-1] < found[0]


def test_a_run_of_another_path_trains_and_samples(tmp_path):
    r = recipe(schedule=Truncated(Cosine(), -20.0), row=Eps(), clock=TimeClock(), density=Uniform(), steps=3)
    model = train(r, tmp_path, progress=False)
    assert torch.isfinite(model.sample([0, 1], [1, 2], steps=3).images).all()
    assert load(tmp_path, ema=False).source["ema"] is False


def test_data_order_visits_each_sample_once_per_epoch():
    order = DataOrder(3, 100)
    two = order(torch.arange(200))
    assert torch.equal(two[:100].sort().values, torch.arange(100))
    assert torch.equal(two[100:].sort().values, torch.arange(100))
    assert not torch.equal(two[:100], two[100:])
    assert torch.equal(DataOrder(3, 100)(torch.arange(95, 110)), two[95:110])


def test_draws_are_stratified_over_the_global_batch_and_addressed():
    def drawing(shape=(1, 2, 2)):
        return Drawing(5, 64, shape, RectifiedFlow(), 0.25, torch.device("cpu"))

    places = torch.arange(64)
    d = drawing()(7, places, Uniform())
    assert ((d.level.t * 64).floor().long() == places).all()
    some = drawing()(7, places[10:20], Uniform())
    assert torch.equal(some.eps, d.eps[10:20])
    assert torch.equal(some.level.t, d.level.t[10:20])
    assert torch.equal(some.dropped, d.dropped[10:20])
    many = drawing((1,))
    drops = torch.cat([many(s, places, Uniform()).dropped for s in range(60)])
    assert float(drops.float().mean()) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("shape", "batch"), [((1, 8, 8), 16), ((3, 32, 32), 6), ((3, 256, 256), 1)])
def test_what_is_drawn_ahead_is_what_every_step_would_draw(shape, batch):
    """Steps in turn, across the end of what was drawn, from elsewhere as after a resume, and of another micro-batch."""
    drawing, seeds = Drawing(3, batch, shape, RectifiedFlow(), 0.1, torch.device("cpu")), torch.full((batch,), 3)
    for step in (0, 1, 2, 63, 64, 65, 3, 1000):
        for places in (torch.arange(batch), torch.arange(0, batch, 2)):
            found, own = drawing(step, places, Uniform()), seeds[: len(places)]
            assert torch.equal(found.eps, gaussian(own, places, step, 0, shape, stream=Stream.TRAIN_NOISE))
            assert torch.equal(found.dropped, uniform(own, places, step, 1, Stream.TRAIN_DROPOUT)[:, 0] < 0.1)
            t = (places + uniform(own, places, step, 1, Stream.TRAIN_TIME)[:, 0]) / batch
            assert torch.equal(found.level.t, Uniform()(t, RectifiedFlow()).level.t)


def test_what_is_drawn_ahead_is_little_however_the_batch_is_split():
    """Also where each sample is looked at by itself, for one that is not finite: 4,096 of two numbers held 3 GiB, and took half an hour."""
    drawing = Drawing(3, 4096, (2,), RectifiedFlow(), 0.1, torch.device("cpu"))
    held = {}
    for place in range(4096)[::64]:
        eps = drawing(0, torch.tensor([place]), Uniform()).eps
        held[place] = eps.untyped_storage().nbytes()
    assert 64 * sum(held.values()) <= 4 * 2**16
    assert drawing(0, torch.arange(4096), Uniform()).eps.untyped_storage().nbytes() > 4 * 2**15


def test_learning_rate():
    r = recipe(steps=100, warmup=10, lr=1.0, lr_end=0.1)
    rates = [learning_rate(r, s) for s in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_batches():
    plan = plan_batches(16, 2, 3)
    assert plan.places == (
        (range(0, 16, 6), range(2, 16, 6), range(4, 16, 6)),
        (range(1, 16, 6), range(3, 16, 6), range(5, 16, 6)),
    )
    assert sorted(p for process in plan.places for places in process for p in places) == list(range(16))
    assert {sum(len(places) for places in process) for process in plan.places} == {8}
    assert (plan.micro_batch, plan.accumulation) == (3, 3)
    assert plan_batches(16, 1, None).places == ((range(16),),)
    with pytest.raises(ValueError, match="choose a multiple of 3"):
        plan_batches(16, 3, None)


def test_report_says_what_a_run_will_be():
    r = recipe(micro_batch=4)
    check_recipe(r)
    text = report(r)
    assert f"{sum(p.numel() for p in r.backbone.parameters()):,} parameters" in text
    assert "16 = 1 process(es) x 4 micro-batch(es) of up to 4" in text


def test_ema_is_the_average_and_copies_buffers():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    ema = Ema(net, 0.9)
    expected = net[0].weight.detach().clone()
    for step in range(1, 40):
        with torch.no_grad():
            net[0].weight.add_(1.0)
            net[1].running_mean.add_(1.0)
        ema.update(net, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net[0].weight.detach()
    assert torch.allclose(ema.state["0.weight"], expected, rtol=1e-5)
    assert torch.equal(ema.state["1.running_mean"], net[1].running_mean)
    own = net[0].weight.detach().clone()

    def fail():
        with ema.swapped(net):
            assert torch.equal(net[0].weight, ema.state["0.weight"])
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert torch.equal(net[0].weight, own)


def test_v_and_edm_rows_train_the_same_way(tmp_path):
    """No row needs code of its own in the trainer."""
    for row in (V(), EDM(1.0)):
        train(recipe(row=row, steps=2), tmp_path / type(row).__name__, progress=False)
