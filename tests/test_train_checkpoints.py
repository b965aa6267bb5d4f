"""What a run leaves on disk: complete, small, resumable, or a clear error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from training import CPU, TINY, batch, names, train

from irnscale.errors import InputError, ModelError, OutputError
from irnscale.train import checkpoints as store
from irnscale.train.loop import Trainer
from irnscale.train.objective import network_of


def test_only_the_newest_checkpoints_are_kept(photos, tmp_path):
    train(tmp_path, photos, replace(TINY, checkpoint_minutes=0))
    assert names(tmp_path) == ["log.jsonl", "step-00000005", "step-00000006"]


def test_a_failed_save_leaves_the_previous_checkpoint(photos, tmp_path, monkeypatch):
    previous = train(tmp_path, photos, replace(TINY, budget="2"))
    before = {path.name: path.read_bytes() for path in previous.iterdir()}
    for error in (OSError(28, "No space left on device"), SafetensorError("I/O error")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(store, "save_file", fail)
        with pytest.raises(OutputError, match="could not write the checkpoint"):
            train(tmp_path, photos, replace(TINY, budget="3"), resume=True)
    assert store.checkpoints(tmp_path) == [previous]
    assert names(tmp_path) == ["log.jsonl", previous.name]
    assert {path.name: path.read_bytes() for path in previous.iterdir()} == before


def test_a_failed_rename_leaves_the_same_step(photos, tmp_path, monkeypatch):
    trainer = Trainer(TINY, out=tmp_path, device=CPU)
    saved = trainer.save()
    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError):
        trainer.save()
    monkeypatch.undo()
    assert names(tmp_path) == [saved.name]
    assert trainer.save() == saved
    assert names(tmp_path) == [saved.name]


def test_checkpoints_come_in_shards(photos, tmp_path, monkeypatch):
    trainer = Trainer(replace(TINY, growth=16), out=tmp_path, device=CPU)
    trainer.train_step(*batch(photos), 1e-3)
    monkeypatch.setattr(store, "SHARD_BYTES", 50_000)
    saved = trainer.save()
    assert len(list(saved.glob("weights-*"))) > 1
    assert len(list(saved.glob("moments-*"))) > 1
    assert max(path.stat().st_size for path in saved.iterdir()) <= 50_000
    again = Trainer(replace(TINY, growth=16), out=tmp_path, device=CPU, resume=True)
    for name, tensor in trainer.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], tensor)
    with pytest.raises(ValueError, match="larger than a shard"):
        store.save_sharded({"huge": torch.zeros(20_000)}, saved, "huge")


def test_real_checkpoints_stay_below_15_mib(tmp_path):
    tensors = {f"m.module_list.{k}.p.conv1.weight": torch.zeros(9, 9, 3, 3).half() for k in range(15_000)}
    store.save_sharded(tensors, tmp_path, "moments")
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 1, "thousands of small tensors have a header worth counting"
    assert 13 * 2**20 < max(sizes) <= 15 * 2**20


def test_export_gives_the_averaged_weights(photos, tmp_path):
    train(tmp_path, photos)
    tensors, state = store.export(tmp_path)
    assert state["step"] == 6
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert tensors.keys() == network_of(TINY).state_dict().keys()
    assert store.export(tmp_path / "step-00000006")[1] == state
    with pytest.raises(InputError, match="no checkpoint"):
        store.export(tmp_path / "nothing")


def test_a_damaged_checkpoint_is_named(photos, tmp_path):
    saved = train(tmp_path, photos, replace(TINY, budget="1"))
    weights = load_file(saved / "weights-00.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, saved / "weights-00.safetensors")
    with pytest.raises(InputError, match="step-00000001"):
        train(tmp_path, photos, resume=True)
    (saved / "weights-00.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="unreadable"):
        train(tmp_path, photos, resume=True)
    (saved / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state\.json"):
        train(tmp_path, photos, resume=True)


def test_starting_from_a_model_file(photos, tmp_path):
    save_file(store.export(train(tmp_path / "first", photos))[0], tmp_path / "start.safetensors")
    recipe = replace(TINY, init=str(tmp_path / "start.safetensors"))
    trainer = Trainer(recipe, out=tmp_path / "second", device=CPU)
    expected = store.export(tmp_path / "first")[0]
    for name, tensor in trainer.net.state_dict().items():
        assert torch.equal(tensor, expected[name].float())
        assert torch.equal(trainer.ema[name], tensor)
    with pytest.raises(ModelError, match="does not fit the recipe"):
        Trainer(replace(recipe, growth=8), out=tmp_path / "second", device=CPU)
    (tmp_path / "start.safetensors").write_text("nonsense")
    with pytest.raises(ModelError, match="not a safetensors file"):
        Trainer(recipe, out=tmp_path / "second", device=CPU)
