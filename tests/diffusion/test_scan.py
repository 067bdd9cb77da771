"""Every sample read once before training: what is found, told, kept and left out."""

import json
import signal

import pytest
import torch
from PIL import Image

from sfumato.diffusion import Digits, ImageFolder, Split
from sfumato.diffusion.excluding import Excluding
from sfumato.diffusion.interrupt import Interrupted, Told
from sfumato.diffusion.scan import Scan, checkable, scan
from sfumato.diffusion.split import held_out, shared
from sfumato.schedules.parts import build, describe


class Numbers:
    """Sample i is the number i; some are said to be bad."""

    shape, num_classes, fingerprint, bins, class_names = (1, 1, 1), 0, "numbers", 7, ["only"]

    def __init__(self, count=1000, bad=()):
        self.count, self.bad = count, bad

    def __len__(self):
        return self.count

    def problem(self, index):
        return f"number {index} is bad" if index in self.bad else None

    def batch(self, index):
        from sfumato.diffusion import Batch

        return Batch(index.float().view(-1, 1, 1, 1), None)


def read(source):
    return source.batch(torch.arange(len(source))).x.flatten().int().tolist()


@pytest.fixture
def folder(tmp_path):
    """Twenty images, of which two are broken: cat/03.png holds nothing, dog/07.png text."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("RGB", (4, 4), (12 * i, 0, 0)).save(tmp_path / name / f"{i:02}.png")
    (tmp_path / "cat" / "03.png").write_bytes(b"")
    (tmp_path / "dog" / "07.png").write_text("no picture")
    return tmp_path


def test_what_is_bad_is_found_whatever_the_threads():
    wrong = {3, 255, 256, 999}
    found = [scan(Numbers(bad=wrong), threads, progress=False) for threads in (1, 2, 7)]
    assert found[0] == found[1] == found[2]
    assert list(found[0].bad.items()) == [(i, f"number {i} is bad") for i in sorted(wrong)]
    assert (found[0].count, found[0].fingerprint) == (1000, "numbers")


def test_a_failure_that_is_none_of_the_sample_ends_the_scan():
    class Broken(Numbers):
        def problem(self, index):
            raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        scan(Broken(), progress=False)


def test_policies(folder):
    found = scan(ImageFolder(str(folder), size=4), progress=False)
    assert sorted(found.bad) == [3, 17]
    with pytest.raises(ValueError, match=r"2 of 20 samples can't be read; (.|\n)*cat/03\.png (.|\n)*dog/07\.png"):
        found.check("stop")
    with pytest.raises(ValueError, match=r"more than may be skipped \(1\.00%\); (.|\n)*cat/03\.png"):
        found.check("skip")
    found.check("skip", limit=0.1)
    with pytest.raises(ValueError, match="corrupt is 'ignore'; allowed: 'stop', 'skip'"):
        found.check("ignore")
    with pytest.raises(ValueError, match=r"is 2\.0; allowed: 0 to 1"):
        found.check("skip", limit=2.0)
    Scan(20).check("stop")
    with pytest.raises(ValueError, match="2 of 2 samples"):  # nothing would be left
        Scan(2, {0: "bad", 1: "bad"}).check("skip", limit=1.0)


def test_a_skip_is_the_same_on_resume(folder):
    data = ImageFolder(str(folder), size=4)
    found = scan(data, progress=False)
    known = Scan.from_json(json.loads(json.dumps(found.to_json())))
    assert known == found
    first, again = found.good(data), known.good(ImageFolder(str(folder), size=4))
    assert first.fingerprint == again.fingerprint != data.fingerprint
    assert len(first) == 18
    index = torch.arange(18)
    assert torch.equal(first.batch(index).x, again.batch(index).x)
    # sample i is the i-th good one, with its label
    kept = torch.tensor([i for i in range(20) if i not in (3, 17)])
    assert torch.equal(first.batch(index).x[5], data.batch(kept[[5]]).x[0])
    assert first.batch(index).labels.tolist() == [0] * 9 + [1] * 9
    (folder / "dog" / "07.png").unlink()
    with pytest.raises(ValueError, match="the data have changed since they were read: 19 samples"):
        known.good(ImageFolder(str(folder), size=4))


def test_good_data_stay_themselves():
    data = Numbers()
    assert scan(data, progress=False).good(data) is data


def test_what_is_told():
    assert Scan(1000).words() == ["1,000 samples read, all good"]
    assert Scan(2000, {4: "a.png is empty"}).words() == [
        "2,000 samples read, 1 of them bad (0.05%)", "  sample 4: a.png is empty"
    ]  # fmt: skip
    lines = Scan(10, dict.fromkeys(reversed(range(9)), "x")).words()
    assert lines[1:] == [*(f"  sample {i}: x" for i in range(5)), "  and 4 more"]


@pytest.mark.parametrize(
    "known",
    [None, [], {}, {"count": 3, "bad": [], "fingerprint": ""}, {"count": 3, "bad": {"5": "x"}, "fingerprint": ""}],
)
def test_other_json_is_refused(known):
    with pytest.raises(ValueError, match="this is no report on data"):
        Scan.from_json(known)


def test_parts_are_scanned_by_their_own_index(folder):
    """A split names its own samples; which file that is, its source says."""
    whole = ImageFolder(str(folder), size=4)
    found = {part: scan(Split(whole, part, 0.5), progress=False) for part in ("train", "held_out")}
    told = sorted(reason for scanned in found.values() for reason in scanned.bad.values())
    assert told == sorted(scan(whole, progress=False).bad.values())
    for part, scanned in found.items():
        split = Split(whole, part, 0.5)
        left = scanned.good(split)
        assert len(left) == 10 - len(scanned.bad)
        left.batch(torch.arange(len(left)))  # all can be read
        assert all(left.problem(i) is None for i in range(len(left)))


def test_what_can_be_scanned():
    assert checkable(Numbers())
    assert checkable(Split(Numbers()))
    assert checkable(Excluding(Split(Numbers()), [0]))
    assert not checkable(Digits())
    assert not checkable(Split(Digits()))
    assert Split(Digits()).problem(0) is Excluding(Digits(), [1]).problem(0) is None
    with pytest.raises(ValueError, match="Split can't say what is wrong with a sample"):
        scan(Split(Digits()))
    with pytest.raises(ValueError, match="threads is 0; allowed: >= 1"):
        scan(Numbers(), 0)


def test_the_others_keep_their_order():
    left = Excluding(Numbers(10), [7, 0, 7, 3])
    assert read(left) == [1, 2, 4, 5, 6, 8, 9]
    assert (left.shape, left.num_classes, left.bins, left.class_names) == ((1, 1, 1), 0, 7, ["only"])
    assert read(Excluding(left, [0, 6])) == [2, 4, 5, 6, 8]
    assert left.fingerprint == Excluding(Numbers(10), (0, 3, 7)).fingerprint
    assert len({left.fingerprint, Excluding(Numbers(10), [0, 3]).fingerprint, Numbers().fingerprint}) == 3


def test_wrong_indices_are_refused():
    with pytest.raises(ValueError, match="allowed: indices of samples"):
        Excluding(Numbers(), [-1])
    with pytest.raises(ValueError, match=r"names sample 10 of 10; allowed: 0 to 9"):
        len(Excluding(Numbers(10), [10]))
    with pytest.raises(ValueError, match="leaves nothing"):
        len(Excluding(Numbers(2), [0, 1]))


def test_it_survives_a_config(folder):
    left = Excluding(Split(ImageFolder(str(folder)), share=0.25), [3, 1])
    again = build(json.loads(json.dumps(describe(left))))
    assert again == left
    assert again.fingerprint == left.fingerprint


def test_leaving_samples_out_moves_none_to_the_held_out_part():
    whole, other = Numbers(), Numbers()
    other.fingerprint = "other numbers"
    run, rest = Excluding(Split(whole, share=0.3), [5]), Split(whole, "held_out", 0.3)
    assert held_out(run) == rest
    assert not shared(run, rest)
    assert not shared(rest, run)
    assert shared(run, whole)
    assert shared(Excluding(whole, [0]), whole)
    assert not shared(Excluding(whole, [0]), other)


def test_a_signal_ends_the_reading(folder):
    data, told = ImageFolder(str(folder), size=4), Told(stop=signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped while the data were read; nothing was begun") as caught:
        scan(data, 1, progress=False, told=told)
    assert caught.value.number == signal.SIGTERM
