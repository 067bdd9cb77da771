"""Two processes are the same run as one."""

import json
import os
import signal
import warnings

import pytest
import torch
from children import ends, forked
from faulted import Dots, Mixer, apart, burn, calm, go, lines, numbers, recorded, same

from sfumato.diffusion import Interrupted, UNet, update
from sfumato.diffusion.backbones import DiT

PLAIN = {"batch": 8, "data": Dots(24)}


def rates(folder):
    return [json.loads(line)["lr"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.fault(2)
@pytest.mark.fault(6)
@pytest.mark.fault(7)
def test_two_are_one_and_resume_as_one(place, injected):
    """Two processes, resumed by two fresh ones, and one process with two micro-batches: one run, to the last bit, rates included."""
    recipe = {**PLAIN, "steps": 6}
    folder = place / "two"

    def do(rank):
        burn(rank + 1)
        recorded(place / f"seen-{rank}.jsonl")
        go(folder, **recipe)

    codes, said, _ = ends(do, place / "log")
    assert codes == [0, 0], said
    whole = numbers(folder)
    first = [lines(place / f"seen-{rank}.jsonl") for rank in (0, 1)]
    go(place / "one", **recipe, micro_batch=4)
    assert same(numbers(place / "one"), whole)
    assert rates(place / "one") == rates(folder)
    assert len(set(rates(folder))) > 3
    for path in sorted((folder / "checkpoints").iterdir())[3:]:
        (path / "state.json").unlink()
    codes, said, _ = ends(do, place / "log")
    assert codes == [0, 0], said
    assert same(numbers(folder), whole)
    for rank in (0, 1):
        seen = lines(place / f"seen-{rank}.jsonl")
        assert seen[6:] == seen[3:6] == first[rank][3:]
    injected("two processes, stopped, resumed, and as one of two micro-batches", 3, 0)


def network(kind):
    torch.manual_seed(0)
    if kind == "Mixer":
        return Mixer(0.0)
    if kind == "UNet":
        return UNet(channels=1, size=2, num_classes=3, width=8, multipliers=(1, 2), blocks=1, attention=(1,))
    return DiT(channels=1, size=2, num_classes=3, patch=1, width=8, depth=1, heads=2)


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("kind", "precision", "bound"),
    [("Mixer", "fp32", 1e-4), ("Mixer", "fp64", 1e-12), ("UNet", "fp64", 1e-12), ("DiT", "fp64", 1e-12)],
)
def test_one_batch_and_halves(place, injected, kind, precision, bound):
    """Eight at once and two times four differ by rounding, in both precisions; previews and validation run in both."""
    recipe = {**PLAIN, "precision": precision, "backbone": network(kind), "steps": 4, "save_every": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".* pictures diverged|.*data_std")
        go(place / "one", **recipe, sample_every=4, validate_every=4, validation=Dots(8))
        go(place / "two", **recipe, micro_batch=4)
    one, two = numbers(place / "one"), numbers(place / "two")
    difference = apart(one, two)
    assert 0 < difference < bound
    assert (one[1]["model/" + next(iter(recipe["backbone"].state_dict()))].dtype == torch.float64) == (
        precision == "fp64"
    )
    assert list((place / "one" / "samples").iterdir())
    injected(f"1 x 8 and 2 x 4, {kind} in {precision}: {difference:.1e} apart", 1, 0)


@pytest.mark.fault(8)
def test_another_number_of_processes(place, injected):
    """One, then two, then one process: the order of the samples and the weights of a run that never changed."""
    recipe = {**PLAIN, "save_every": 0, "backbone": calm()}
    go(place / "quiet", **recipe)

    def part(stop):
        def do(rank):
            call = update.Update.__call__

            def called(self, step):
                if step + 1 == stop:
                    os.kill(os.getpid(), signal.SIGTERM)
                return call(self, step)

            update.Update.__call__ = called
            recorded(place / f"seen-{rank}.jsonl")
            with pytest.raises(Interrupted):
                go(place / "run", **recipe)

        return do

    assert forked(lambda: part(4)(0), place / "log") == 0, (place / "log").read_text()
    codes, said, _ = ends(part(8), place / "log")
    assert codes == [0, 0], said
    assert numbers(place / "run")[0] == 8
    go(place / "run", **recipe)
    difference = apart(numbers(place / "run"), numbers(place / "quiet"))
    assert difference < 1e-5
    assert not same(numbers(place / "run"), numbers(place / "quiet")), "halves are summed otherwise"
    seen = [lines(place / f"seen-{rank}.jsonl") for rank in (0, 1)]
    middle = [a[1][0][1] + b[1][0][1] for a, b in zip(seen[0][4:], seen[1], strict=True)]
    assert all(len(set(samples)) == 8 for samples in middle)
    epoch = [s for line in seen[0][:3] for s in line[1][0][1]]
    assert sorted(epoch) == list(range(24))
    injected(f"1, 2 and 1 processes: {difference:.1e} apart", 2, 0)
