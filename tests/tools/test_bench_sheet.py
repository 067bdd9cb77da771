"""`sfumato bench`: what is kept of a measurement, held against an earlier one, judged by goals; and peers whose needs are missing."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from sfumato.tools.bench import kinds, main
from sfumato.tools.bench.goals import Goal, kept, markdown, table
from sfumato.tools.bench.kind import Kind
from sfumato.tools.bench.kinds import KINDS
from sfumato.tools.bench.main import Bench
from sfumato.tools.bench.samplers import _times
from sfumato.tools.bench.sheet import Cell, Sheet, changes, exact, ratio_of, read, shown
from sfumato.tools.bench.stand_in import import_peer
from sfumato.tools.cli import main as cli


def test_a_ratio_is_taken_round_by_round():
    """So that a machine that is slow for some rounds is slow for both sides."""
    cell = ratio_of([2.0, 40.0, 3.0, 8.0], [1.0, 10.0, 1.0, 4.0])
    assert (cell.value, cell.low, cell.high, cell.unit) == (2.5, 2.0, 3.25, "x")
    assert ratio_of([3.0], [2.0], "%") == Cell(1.5, None, None, "%")


@pytest.mark.parametrize(
    ("cell", "said"),
    [(Cell(1.234, 1.1, 1.4), "1.23 (1.10 to 1.40)"), (Cell(0.0312, unit="%"), "3.12%"), (Cell(0.5, unit="%"), "50.0%"),
     (exact(136), "136"), (exact(7.01), "7.01"), (Cell(1234.0, unit="img/s"), "1,234"), (Cell(0.00123), "0.00123"), (Cell(2.0), "2.00")],
)  # fmt: skip
def test_cells_are_shown(cell, said):
    assert shown(cell) == said


def test_a_sheet_prints_a_head_when_columns_change_and_is_read_again(tmp_path):
    lines = []
    sheet = Sheet("samplers", lines.append)
    sheet.add("one", {"time": Cell(1.5, 1.0, 2.0)})
    sheet.add("two", {"time": Cell(1.6)})
    sheet.add("three", {"calls": exact(7)})
    sheet.note("a remark")
    sheet.lacks("azula", "not installed")
    assert [line.split() for line in lines if "[x]" in line or line.split()[0] == "calls"] == [
        ["time", "[x]"],
        ["calls"],
    ]
    file = sheet.write(tmp_path / "new")
    assert read(file) == sheet.rows
    kept = json.loads(file.read_text())
    assert (kept["notes"], kept["absent"]) == (["a remark"], {"azula": "not installed"})
    assert kept["machine"]["cores"] >= 1
    assert kept["machine"]["processor"]


def test_a_row_measured_alone_joins_the_others(tmp_path):
    for row, join in (("a", False), ("b", True), ("a", True)):
        sheet = Sheet("samplers", lambda line: None)
        sheet.add(row, {"time": Cell(1.0 + join)})
        file = sheet.write(tmp_path, join)
    assert {row: cells["time"].value for row, cells in read(file).items()} == {"a": 2.0, "b": 2.0}
    sheet.write(tmp_path)
    assert list(read(file)) == ["a"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": {"a": {"b": {"wrong": 1}}}}', '{"rows": 3}'])
def test_what_no_bench_wrote_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="can't be read as the JSON of `sfumato bench`"):
        read(tmp_path / "a.json")


def test_what_has_changed():
    before = {"a": {"ops": exact(5), "time": Cell(1.0, 0.9, 1.1)}, "gone": {"time": Cell(1.0)}}
    assert changes(before, {**before}) == []
    nearly = {"a": {"ops": exact(5), "time": Cell(1.15, 1.05, 1.2)}, "gone": {"time": Cell(9.0)}}
    assert changes(before, nearly) == []  # middle halves that meet; what was measured once says nothing
    assert changes({"a": {"time": Cell(1.0, 0.99, 1.01)}}, {"a": {"time": Cell(1.05, 1.04, 1.06)}}) == []  # a twentieth
    after = {"a": {"ops": exact(6), "time": Cell(1.3, 1.2, 1.4)}}
    assert changes(before, after) == [
        "a, ops: 6, before 5", "a, time: 1.30 (1.20 to 1.40), before 1.00 (0.90 to 1.10)", "gone: was measured before, not now",
    ]  # fmt: skip
    assert changes({"a": {"time": Cell(1.0)}}, {"a": {"other": Cell(1.0)}}) == ["a, time: was measured before, not now"]


def test_goals_are_judged_by_the_median():
    most, least = Goal("m", "b", "r", "c", 1.15), Goal("l", "b", "r", "c", 5.0, at_most=False, why="python")
    assert [kept(most, Cell(v)) for v in (1.15, 1.16)] == [True, False]
    assert [kept(least, Cell(v)) for v in (5.0, 4.99)] == [True, False]
    rows = table([most, least], {"b": {"r": {"c": Cell(1.1, 1.0, 1.2)}}})
    assert rows == [
        ("m", "<= 1.15 x", "1.10 (1.00 to 1.20) x", "kept", ""),
        ("l", ">= 5.00 x", "1.10 (1.00 to 1.20) x", "short", "python"),
    ]
    assert table([least], {}) == [("l", ">= 5", "-", "not measured", "python")]
    share = Goal("s", "b", "r", "c", 0.02)
    assert table([share], {"b": {"r": {"c": Cell(0.004, unit="%")}}}) == [("s", "<= 2.00%", "0.40%", "kept", "")]


def test_goals_of_one_limit_are_one_line_of_the_readme():
    goals = [Goal(f"m{row}", "b", row, "c", 2.0, why=f"w{row}") for row in "rst"]
    goals += [Goal("l", "b", "r", "c", 5.0, at_most=False), Goal("gpu", "g", "r", "c", 1.0)]
    measured = {"b": {"r": {"c": Cell(1.0)}, "s": {"c": Cell(3.0)}, "t": {"c": Cell(2.5)}}}
    assert markdown(goals, measured).splitlines()[2:] == [
        "| b | 1 of 3 | ms | <= 2.00 x | 3.00 x | ws |", "| b | 0 of 1 | l | >= 5.00 x | 1.00 x |  |", "",
        "Goals that were not measured: 1 of g.",
    ]  # fmt: skip


@pytest.fixture
def one(monkeypatch):
    """A bench that answers from a list."""
    answers = []

    def measure(ask, sheet):
        sheet.add("row", {"ops": exact(answers[-1]), "asked": exact(len(ask.against))})

    kind = Kind(
        measure,
        ("row",),
        ("diffusers", "azula"),
        (Goal("few operations", "one", "row", "ops", 5.0, why="more were wanted"),),
    )
    monkeypatch.setitem(kinds.KINDS, "one", kind)
    return answers


def test_an_earlier_run_is_held_against_a_new_one(one, tmp_path, capsys):
    one.append(4)
    folder = str(tmp_path)
    assert cli(["bench", "one", "--out", folder]) == 0
    assert cli(["bench", "one", "--out", folder, "--before", folder, "--against", "azula,diffusers"]) == 0
    assert "unchanged since" in capsys.readouterr().out
    one.append(6)
    assert cli(["bench", "one", "--out", folder, "--before", f"{folder}/one.json"]) == 1
    assert "row, ops: 6, before 4" in capsys.readouterr().out
    assert read(tmp_path / "one.json")["row"]["ops"].value == 6
    assert cli(["bench", "goals", "--out", folder]) == 0
    assert "short         few operations: 6, goal <= 5; more were wanted" in capsys.readouterr().out
    assert cli(["bench", "goals", "--out", folder, "--markdown"]) == 0
    assert "| one | 0 of 1 | few operations | <= 5 | 6 | more were wanted |" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path, capsys):
    with pytest.raises(ValueError, match="allowed: samplers, filters"):
        Bench("nothing")
    with pytest.raises(
        ValueError, match="against names 'edm'; allowed: diffusers, k-diffusion, azula, with commas between"
    ):
        Bench("samplers", against="diffusers,edm")
    with pytest.raises(ValueError, match="allowed: nothing, for filters; leave it out"):
        Bench("filters", against="diffusers")
    with pytest.raises(ValueError, match=r"only is 'Haun'; allowed: .*did you mean Heun"):
        Bench("samplers", only="Haun")
    for given, words in (
        ({"growth": True}, "growth is true"),
        ({"compile": True}, "compile is true"),
        ({"markdown": True}, "markdown"),
    ):
        with pytest.raises(ValueError, match=f"{words}.* changes nothing of evaluate; leave it"):
            Bench("evaluate", **given)
    with pytest.raises(ValueError, match="which is a file; give a folder"):
        Bench("samplers", out=__file__)
    with pytest.raises(ValueError, match="there is no file"):
        Bench("samplers", before=str(tmp_path / "nowhere.json"))
    assert cli(["bench", "goals", "--out", str(tmp_path)]) == 2
    assert "no bench has written there; run `sfumato bench samplers --out" in capsys.readouterr().err


def test_what_was_measured_before_an_interruption_is_kept(monkeypatch, tmp_path, capsys):
    def measure(ask, sheet):
        sheet.add("first", {"ops": exact(1)})
        raise KeyboardInterrupt

    monkeypatch.setitem(kinds.KINDS, "one", Kind(measure))
    assert cli(["bench", "one", "--out", str(tmp_path)]) == 130
    assert list(read(tmp_path / "one.json", "one")) == ["first"]
    with pytest.raises(ValueError, match="is of the bench 'one'; give one of 'data'"):
        read(tmp_path / "one.json", "data")


def test_an_earlier_run_is_asked_for_what_was_measured_now_alone(monkeypatch, tmp_path, capsys):
    def measure(ask, sheet):
        for row in ("a", "b") if ask.only is None else (ask.only,):
            sheet.add(row, {"ops": exact(1)} | ({"more": exact(2)} if ask.only is None else {}))

    monkeypatch.setitem(kinds.KINDS, "one", Kind(measure, ("a", "b")))
    folder = str(tmp_path)
    assert cli(["bench", "one", "--out", folder]) == 0
    assert cli(["bench", "one", "--out", f"{folder}/new", "--only", "a", "--before", folder]) == 0
    assert "unchanged since" in capsys.readouterr().out


def test_the_readme_has_the_goals_as_recorded():
    measured = {name: read(file) for name in KINDS if (file := main.RECORDED / f"{name}.json").is_file()}
    told = markdown([goal for kind in KINDS.values() for goal in kind.goals], measured)
    assert told in (Path(__file__).parents[2] / "README.md").read_text()


def test_every_goal_limits_a_cell_that_was_recorded():
    """What is recorded with this version has the cell of every goal, but for those that need a GPU."""
    for name, kind in KINDS.items():
        file = main.RECORDED / f"{name}.json"
        rows = read(file) if file.is_file() else {}
        for goal in kind.goals:
            assert goal.bench == name
            if name != "gpu":
                assert goal.column in rows[goal.row], goal.what


def test_the_network_is_taken_off_both_sides():
    found = {"floor": [3.0, 3.0], "ours": [4.0, 4.0], "diffusers": [13.0, 13.0], "network": [1.0, 1.0]}
    cells = {k: cell.value for k, cell in _times(found, "diffusers").items()}
    assert cells == {"times the floor": 6.0, "times ours": 4.0, "times the floor, network included": 13 / 3,
                     "times ours, network included": 3.25}  # fmt: skip


def test_a_peer_is_imported_without_what_only_its_trainer_needs(tmp_path, monkeypatch):
    """Empty modules stand for what is missing, for that import alone; what is tried only stays missing."""
    (tmp_path / "peer_of_a_test").mkdir()
    (tmp_path / "peer_of_a_test/__init__.py").write_text(
        "from . import part\nfrom missing_of_a_test.transforms import Resize\nimport missing_of_a_test.io\n"
        "class Mine(Resize): pass\ntry:\n    import another_of_a_test\n    tried = True\nexcept ImportError:\n    tried = False\n"
    )
    (tmp_path / "peer_of_a_test/part.py").write_text(
        "import importlib.util\nthere = importlib.util.find_spec('missing_of_a_test') is not None\ndef answer(): return 42\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    peer = import_peer("peer_of_a_test")
    assert (peer.part.answer(), peer.tried, peer.part.there) == (42, False, False)
    assert not any(name.startswith("missing_of_a_test") for name in sys.modules)
    assert importlib.util.find_spec("missing_of_a_test") is None
    with pytest.raises(ImportError, match="only an empty stand-in"):
        peer.Mine()
    with pytest.raises(ImportError, match="nowhere_of_a_test"):
        import_peer("nowhere_of_a_test.part")
    (tmp_path / "peer_of_a_test/broken.py").write_text("import peer_of_a_test.absent\n")
    with pytest.raises(ImportError, match="absent"):
        import_peer("peer_of_a_test.broken")
