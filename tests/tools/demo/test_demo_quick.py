"""Whoever comes with nothing: a model is trained as the command would, by one visitor for all, and can be stopped and gone on with."""

import sys
import threading

import pytest
import torch
from crowded import until
from modelled import made

from sfumato.diffusion import load, train
from sfumato.tools.demo import training as module
from sfumato.tools.demo.app import build_app
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.quick import panel
from sfumato.tools.demo.running import Running
from sfumato.tools.demo.shelf import Entry, Shelf
from sfumato.tools.demo.training import Stage, Training
from sfumato.tools.train import recipe_from, resolve_recipe

SMALL = [("steps", 12), ("batch", 8), ("sample_every", 0), ("save_every", 0), ("sampling_steps", 3)]


@pytest.fixture
def small(monkeypatch):
    """The recipe, in a few steps."""

    def resolved(name, pairs, allow):
        return resolve_recipe(name, [*pairs, *SMALL], allow)

    monkeypatch.setattr(module, "resolve_recipe", resolved)
    monkeypatch.setattr(module, "plot_losses", lambda folder: "")


def ended(training):
    until(lambda: training.stage.state != "going", 60)
    return training.stage


def test_it_is_the_run_that_the_command_makes(small, tmp_path):
    shelf, told = Shelf([]), []
    training = Training(shelf, Running(), tmp_path / "runs", lambda: told.append(list(shelf.names)))
    assert training.start()
    stage = ended(training)
    assert (stage.state, stage.step, stage.steps, stage.name) == ("done", 12, 12, "quickstart"), stage.words
    assert told == [["quickstart"]]
    train(recipe_from(resolve_recipe("digits", [("seed", 0), *SMALL], ()), ()), tmp_path / "other", progress=False)
    ours, theirs = (load(tmp_path / name) for name in ("runs/quickstart", "other"))
    for a, b in zip(ours.denoiser.parameters(), theirs.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(stage.pictures, theirs.sample(range(10), list(range(10))).images)
    assert torch.equal(shelf.get("quickstart").model.sample([3], [4]).images, theirs.sample([3], [4]).images)
    assert not training.start()  # there is a model now
    assert "quickstart" in panel(stage)
    assert panel(stage).count("<img") == 10


def test_one_at_a_time_for_everybody(small, tmp_path, monkeypatch):
    begun, leave = [], threading.Event()
    real = module.train

    def slow(*given, **more):
        begun.append(given[1])
        leave.wait(20)
        return real(*given, **more)

    monkeypatch.setattr(module, "train", slow)
    training = Training(Shelf([]), Running(), tmp_path)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(training.start())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]
    until(lambda: begun)
    assert not training.start()
    assert "is being trained" in panel(training.stage)
    leave.set()
    assert ended(training).state == "done"
    assert begun == [tmp_path / "quickstart"]


def test_stopped_it_goes_on_from_there_and_ends_as_if_nothing_had_been(small, tmp_path, monkeypatch):
    running = Running()
    training = Training(Shelf([]), running, tmp_path / "runs")
    real = module.train

    def nudged(recipe, folder, *, watch, **more):
        def seen(step, loss):
            if step == 5:
                training.stop()
            return watch(step, loss)

        return real(recipe, folder, watch=seen, **more)

    monkeypatch.setattr(module, "train", nudged)
    training.start()
    stage = ended(training)
    assert (stage.state, stage.step) == ("stopped", 5)
    assert running.count == 0
    assert "Stopped at step 5 of 12" in panel(stage)
    monkeypatch.setattr(module, "train", real)
    assert training.start()
    stage = ended(training)
    assert (stage.state, stage.first, stage.step) == ("done", 5, 12)
    train(recipe_from(resolve_recipe("digits", [("seed", 0), *SMALL], ()), ()), tmp_path / "other", progress=False)
    ours, theirs = (load(tmp_path / name) for name in ("runs/quickstart", "other"))
    for a, b in zip(ours.denoiser.parameters(), theirs.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_servers_end_stops_it(small, tmp_path):
    running = Running()
    training = Training(Shelf([]), running, tmp_path)
    training.start()
    running.stop_all(60)
    assert training.stage.state in ("stopped", "done")  # it was waited for
    assert not [t for t in threading.enumerate() if t.name == "training"]


def test_what_goes_wrong_is_said_in_words(small, tmp_path, monkeypatch, capsys):
    training = Training(Shelf([]), Running(), tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.datasets", None)
        training.start()
        stage = ended(training)
    assert stage.state == "failed"
    assert "needs scikit-learn: pip install 'sfumato[quickstart]'" in stage.words
    assert "needs scikit-learn" in panel(stage)
    with monkeypatch.context() as broken:
        broken.setattr(module, "train", lambda *given, **more: {}["/home/secret"])
        training.start()
        stage = ended(training)
    assert stage.words == "The server failed at this, and its log says where."
    assert "KeyError" in capsys.readouterr().err
    assert training.start()  # and may be tried again
    assert ended(training).state == "done"


def test_how_long_it_will_take():
    assert Stage("going", 0, 800).left is None
    assert Stage("going", 200, 800, seconds=10.0).left == 30.0
    assert Stage("going", 300, 800, seconds=10.0, first=200).left == 50.0
    assert "step 200 of 800, loss 0.500, about 30 s left" in panel(Stage("going", 200, 800, 0.5, 10.0))
    assert 'aria-valuenow="25"' in panel(Stage("going", 200, 800, 0.5, 10.0))
    assert "&lt;b&gt;" in panel(Stage("failed", words="<b>"))


@pytest.mark.parametrize(("train", "models", "offered"), [(None, 0, False), ("runs", 1, False), ("runs", 0, True)])
def test_it_is_offered_only_where_the_command_came_with_nothing(train, models, offered, tmp_path):
    root = None if train is None else str(tmp_path / train)
    app = build_app(Shelf([Entry("tiny", made)][:models]), Limits(train=root))
    ids = {block.elem_id for block in app.blocks.values()}
    assert ("quick-train" in ids) is offered
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("stop", [None, 3])
def test_training_is_watched_and_stopped_by_an_answer(stop, small, tmp_path):
    from sfumato.diffusion import Interrupted

    seen, recipe = [], recipe_from(resolve_recipe("digits", [("seed", 0), *SMALL], ()), ())

    def watch(step, loss):
        seen.append((step, loss))
        return step == stop

    if stop is None:
        train(recipe, tmp_path / "run", progress=False, watch=watch)
    else:
        with pytest.raises(Interrupted, match="stopped at step 3 of 12; the checkpoint is saved"):
            train(recipe, tmp_path / "run", progress=False, watch=watch)
        assert load(tmp_path / "run").source["checkpoint"] == 3
    assert [step for step, _ in seen] == list(range(1, (stop or 12) + 1))
    assert all(0 < loss < 10 for _, loss in seen)
