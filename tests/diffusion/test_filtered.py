"""What filters did: shares, words, warnings, tables."""

import csv
import math
import warnings

import pytest
import torch

from sfumato.diffusion import Filtered, Try
from sfumato.diffusion.filtered import MOST, Record, filter_names
from sfumato.samplers.filters import Calibrated, Calibration, PathLength, RenoiseProbe, TrajectoryVariance, Verdict
from sfumato.samplers.refill import Finished

PROBE = Calibrated(Calibration(RenoiseProbe(2.0, 0.25), 0.01, 500, "upper", "weights", "digits", True))


def tried(rejected, count, alphas=(None,)):
    tries = [Try(i, 0, i >= rejected, (0.5,), "" if i >= rejected else "too much") for i in range(count)]
    return Filtered(("A",) * len(alphas), tuple(tries), alphas)


@pytest.mark.parametrize(
    ("rejected", "count", "low", "high"),
    [(1, 10, 0.0179, 0.4042), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (20, 100, 0.1334, 0.2888)],
)
def test_wilsons_interval(rejected, count, low, high):
    """Values of Wilson's score interval at z = 1.96."""
    found = tried(rejected, count)
    assert (found.rejected, found.rate) == (rejected, rejected / count)
    assert found.interval == pytest.approx((low, high), abs=5e-5)
    # its ends are where the share lies z standard errors away
    for end in found.interval:
        if 0 < end < 1:
            assert abs(found.rate - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / count), rel=1e-9)


def test_without_attempts_nothing_is_known():
    empty = Filtered()
    assert empty.interval == (0.0, 1.0)
    assert math.isnan(empty.rate)
    assert empty.estimate is None
    assert empty.words() == []
    assert empty.rejected == 0
    assert Filtered(("A",), (), (0.1,)).estimate is None


def test_what_real_pictures_are_rejected_for_is_taken_off():
    assert tried(20, 100, (0.1,)).estimate == pytest.approx(0.1 / 0.9)
    assert tried(5, 100, (0.1,)).estimate == 0.0
    assert tried(20, 100).estimate is None
    assert tried(20, 100, (0.1, 0.1)).estimate is None


def test_words():
    assert tried(20, 100).words() == ["20 of 100 attempts rejected by A (20.0%; 95 % confidence 13.3% to 28.9%)"]
    assert tried(20, 100, (0.1,)).words()[1] == (
        "real pictures like those of the calibration are rejected in at most 10.0%; about 11.1% of what the model makes is rejected beyond "
        "that (what the filter does not see is not counted)"
    )
    assert tried(1, 4, (None, None)).words()[0].startswith("1 of 4 attempts rejected by A, A (25.0%;")


def said(found, lost=0, slots=100, retries=8):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found.warn(lost, slots, retries, stacklevel=1)
    return [(str(w.message), w.filename) for w in seen]


def test_silence_where_all_is_well():
    assert said(tried(20, 100)) == []
    assert said(tried(9, 9)) == []  # too few to say
    assert said(Filtered()) == []


def test_warnings():
    ((many, where),) = said(tried(21, 100))
    assert many.startswith("filters rejected 21% of 100 attempts (95 % confidence 14% to 30%); mend the model")
    assert where == __file__
    assert len(said(tried(3, 10))) == 1
    ((lost, _),) = said(tried(2, 9), lost=2, slots=7, retries=3)
    assert lost.startswith(
        "2 of 7 slots have no picture: all 4 attempts at each were rejected; filters rejected 22% of 9"
    )


def finished(slots, attempts, keep, scores, reasons):
    keep = torch.tensor(keep)
    verdicts = tuple(Verdict(keep, torch.tensor(s), r) for s, r in zip(scores, reasons, strict=True))
    count = len(slots)
    return Finished(
        torch.tensor(slots), torch.tensor(attempts), torch.zeros(count, 1), keep, verdicts, torch.zeros(count, 1)
    )


def test_the_record_is_in_the_order_of_slots_and_attempts(tmp_path):
    record = Record([PROBE, PathLength()])
    one, two = torch.full((2, 1, 2, 2), 0.25), torch.full((2, 1, 2, 2), -0.5)
    record.add(
        finished([1, 0], [0, 0], [True, False], [[0.5, math.nan], [1.5, 2.5]], [["", "P: a"], ["", "L: b"]]), one
    )
    record.add(finished([2, 0], [0, 1], [False, True], [[0.125, 4.0], [7.0, 8.0]], [["", ""], ["L: c", ""]]), two)
    found = record.result()
    assert [(t.slot, t.attempt, t.kept, t.reason) for t in found.tries] == [
        (0, 0, False, "P: a; L: b"), (0, 1, True, ""), (1, 0, True, ""), (2, 0, False, "L: c")
    ]  # fmt: skip
    assert found.names == ("RenoiseProbe", "PathLength")
    assert found.alphas == (0.01, None)
    assert [found.tries[i][:2] for i in found.shown] == [(0, 0), (2, 0)]
    assert found.pictures[:, 0, 0, 0].tolist() == [0.25, -0.5]
    found.save_csv(tmp_path / "s.csv", [70, 2**62, 90], [3, 4, 5])
    text = (tmp_path / "s.csv").read_text()
    assert text.splitlines() == [
        "slot,seed,label,attempt,kept,RenoiseProbe,PathLength,reason",
        "0,70,3,0,0,nan,2.5,P: a; L: b",
        "0,70,3,1,1,4,8,",
        "1,4611686018427387904,4,0,1,0.5,1.5,",
        "2,90,5,0,0,0.125,7,L: c",
    ]
    found.save_csv(tmp_path / "n.csv", [70, 80, 90], None)
    with (tmp_path / "n.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "label" not in rows[0]
    assert rows[0]["reason"] == "P: a; L: b"


def test_scores_in_the_table_keep_the_digits_of_float32(tmp_path):
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0))
    tries = tuple(Try(i, 0, True, (s,), "") for i, s in enumerate(scores.tolist()))
    Filtered(("A",), tries, (None,)).save_csv(tmp_path / "s.csv", range(50), None)
    with (tmp_path / "s.csv").open() as file:
        read = torch.tensor([float(row["A"]) for row in csv.DictReader(file)])
    assert torch.equal(read, scores)


def test_the_first_rejected_pictures_are_kept_whatever_comes_first():
    def shown(order):
        record = Record([PROBE])
        for slot in order:
            record.add(finished([slot], [0], [False], [[1.0]], [["P"]]), torch.full((1, 1, 1, 1), float(slot)))
        return record.result()

    forward, backward = shown(range(MOST + 6)), shown(range(MOST + 5, -1, -1))
    for found in (forward, backward):
        assert found.pictures.flatten().tolist() == list(range(MOST))
        assert found.shown == tuple(range(MOST))
        assert len(found.tries) == MOST + 6
    assert Record([]).result().pictures.numel() == 0


def test_a_rejected_picture_does_not_hold_its_batch_in_memory():
    """64 of them, each of another batch, would hold 64 batches."""
    record, batch = Record([PROBE]), torch.ones(2, 1, 2, 2)
    record.add(finished([0, 1], [0, 0], [True, False], [[0.5, 1.0]], [["", "P"]]), batch)
    batch.zero_()
    assert record.result().pictures.mean() == 1.0
    assert record._pictures[0][2].untyped_storage().nbytes() == 4 * 4


def test_names_are_told_apart():
    named = filter_names([PROBE, TrajectoryVariance(), RenoiseProbe(), TrajectoryVariance(), PROBE])
    assert named == ("RenoiseProbe", "TrajectoryVariance", "RenoiseProbe-2", "TrajectoryVariance-2", "RenoiseProbe-3")
