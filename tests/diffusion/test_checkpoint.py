"""Checkpoints: whole or not there, verified, and the newest valid one is found."""

import json
import os
import shutil

import pytest
import torch

from sfumato.diffusion.checkpoint import newest, save


def publish(root, step, keep=10):
    tensors = {"model": {"w": torch.full((3,), float(step))}, "ema": {"w": torch.zeros(2)}}
    return save(root, step, tensors, {"note": step}, keep)


def test_round_trip(tmp_path):
    publish(tmp_path, 7)
    found = newest(tmp_path)
    assert found.step == 7
    assert found.state == {"note": 7}
    assert found.tensors("model")["w"].tolist() == [7.0] * 3


def test_retention_keeps_the_newest(tmp_path):
    for step in (1, 2, 3, 4):
        publish(tmp_path, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000003", "step-000000004"]


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "delete"])
def test_a_damaged_checkpoint_is_named_and_skipped(tmp_path, name, harm):
    publish(tmp_path, 1)
    path = publish(tmp_path, 2) / name
    data = bytearray(path.read_bytes())
    if harm == "delete":
        path.unlink()
    elif harm == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"step-000000002 is skipped"):
        assert newest(tmp_path).step == 1


def test_an_invalid_checkpoint_never_costs_a_valid_one(tmp_path):
    """A corrupt one with a higher number is not counted, and what was just published stays."""
    publish(tmp_path, 15)
    (publish(tmp_path, 20) / "model.safetensors").write_bytes(b"damaged")
    publish(tmp_path, 16, keep=1)
    with pytest.warns(UserWarning, match="step-000000020 is skipped"):
        assert newest(tmp_path).step == 16
    publish(tmp_path, 17, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000016", "step-000000017", "step-000000020"]
    (tmp_path / "step-000000017" / "state.json").write_text("{}")
    publish(tmp_path, 18, keep=2)  # 17 is damaged now: 16 stays in its place
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000016", "step-000000018", "step-000000020"]


@pytest.mark.parametrize(
    "edit", [{"step": 3}, {"files": {}}, {"files": None}, {"files": {"../x": {"sha256": "", "bytes": 0}}}]
)
def test_an_edited_manifest_is_not_trusted(tmp_path, edit):
    folder = publish(tmp_path, 2)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **edit}))
    with pytest.warns(UserWarning, match="is skipped"):
        assert newest(tmp_path) is None


def test_tied_weights_are_saved(tmp_path):
    shared = torch.ones(3)
    save(tmp_path, 1, {"model": {"a": shared, "b": shared, "c": shared[1:]}}, {}, 1)
    assert newest(tmp_path).tensors("model")["c"].tolist() == [1.0, 1.0]


def test_a_copy_beside_the_checkpoints_is_not_ours_to_remove(tmp_path):
    shutil.copytree(publish(tmp_path, 1), tmp_path / "step-000000001-best")
    publish(tmp_path, 2, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000001-best", "step-000000002"]
    assert newest(tmp_path).step == 2


def test_nothing_valid_is_none(tmp_path):
    assert newest(tmp_path) is None
    (publish(tmp_path, 1) / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning, match="is skipped"):
        assert newest(tmp_path) is None


def test_another_format_is_refused(tmp_path):
    folder = publish(tmp_path, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.warns(UserWarning, match="format 99"):
        assert newest(tmp_path) is None


def test_a_failing_save_leaves_the_earlier_ones_and_no_rubbish(tmp_path, monkeypatch):
    publish(tmp_path, 1)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sfumato.diffusion.checkpoint.save_file", full)
        with pytest.raises(OSError, match=r"disk is full: 0\.0 MiB are needed and .* are free.*test_a_failing_save"):
            publish(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001"]
    assert newest(tmp_path).step == 1


def test_leftovers_of_a_killed_process_are_ignored_and_swept(tmp_path):
    publish(tmp_path, 1)
    (tmp_path / ".stage-dead").mkdir()
    (tmp_path / ".stage-dead" / "model.safetensors").write_bytes(b"half")
    assert newest(tmp_path).step == 1
    publish(tmp_path, 2)
    assert not (tmp_path / ".stage-dead").exists()


def test_the_same_step_again_replaces_only_what_is_damaged(tmp_path):
    """There is no moment at which a valid checkpoint is gone and its successor not yet there."""
    folder = publish(tmp_path, 3)
    again = {"model": {"w": torch.ones(1)}}, {"note": "again"}, 5
    save(tmp_path, 3, *again)
    assert newest(tmp_path).state == {"note": 3}
    (folder / "state.json").write_text("{}")
    save(tmp_path, 3, *again)
    assert newest(tmp_path).state == {"note": "again"}
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000003"]


def test_a_kill_before_every_rename_loses_nothing(tmp_path, monkeypatch):
    """The publishing rename is the only moment at which a checkpoint appears."""
    publish(tmp_path, 1)

    class Killed(BaseException):
        pass

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            publish(tmp_path, 2)
    assert newest(tmp_path).step == 1
