"""What a run leaves on disk: complete, small, resumable, or a clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from training import CPU, TINY, batch, kept, names, records, train

from irnscale.errors import InputError, ModelError, OutputError
from irnscale.train import checkpoints as store
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer


def test_only_the_newest_checkpoints_are_kept(photos, tmp_path):
    train(tmp_path, photos, TINY.but(checkpoint_minutes=0))
    assert kept(tmp_path) == [5, 6]
    assert len(names(tmp_path)) == 5, "the log, the samples and the lock beside them"


def test_a_failed_save_leaves_the_previous_checkpoint(photos, tmp_path, monkeypatch):
    previous = train(tmp_path, photos, TINY.but(budget="2"))
    before = {path.name: path.read_bytes() for path in previous.iterdir()}
    for error in (OSError(28, "No space left on device"), SafetensorError("I/O error")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(store, "save_file", fail)
        with pytest.raises(OutputError, match="could not write the checkpoint"):
            train(tmp_path, photos, TINY.but(budget="3"), resume=True)
    assert store.checkpoints(tmp_path) == [previous]
    assert names(tmp_path) == [".lock", previous.name, "log.jsonl", "samples"]
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
    trainer = Trainer(TINY.but(growth=16), out=tmp_path, device=CPU)
    trainer.train_step(batch(photos), 1e-3)
    monkeypatch.setattr(store, "SHARD_BYTES", 50_000)
    saved = trainer.save()
    assert len(list(saved.glob("weights-*"))) > 1
    assert len(list(saved.glob("optimizer-*"))) > 1
    assert max(path.stat().st_size for path in saved.iterdir()) <= 50_000
    again = Trainer(TINY.but(growth=16), out=tmp_path, device=CPU, resume=True)
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
    saved = train(tmp_path, photos)
    tensors, state = store.export(tmp_path)
    assert state["step"] == 6
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert tensors.keys() == objective_of(TINY).net.state_dict().keys()
    assert store.export(saved)[1] == state
    with pytest.raises(InputError, match="no checkpoint"):
        store.export(tmp_path / "nothing")


def test_the_compact_form_resumes_closely(photos, tmp_path):
    recipe = TINY.but(checkpoint_compact=True, schedule="constant")
    whole = train(tmp_path / "whole", photos, recipe)
    halves = train(tmp_path / "halves", photos, recipe.but(budget="3"))
    full = train(tmp_path / "full", photos, TINY.but(budget="3", schedule="constant"))
    sizes = [sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in (halves, full)]
    assert sizes[0] < 0.75 * sizes[1]
    assert {t.dtype for t in store.load_sharded(halves, "ema").values()} == {torch.float16}
    part = train(tmp_path / "halves", photos, recipe, resume=True)
    one, two = store.load_sharded(part, "weights"), store.load_sharded(whole, "weights")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-3)


def test_a_run_is_found_by_its_id(photos, tmp_path):
    first = train(tmp_path / "a", photos, TINY.but(budget="1"))
    train(tmp_path / "b", photos, TINY.but(budget="1"))
    run_id = store.load_state(first)["run_id"]
    assert store.find_run(run_id, tmp_path / "b") == tmp_path / "a"
    assert store.find_run(str(first), tmp_path / "b") == tmp_path / "a"
    final = train(tmp_path / "elsewhere", photos, TINY.but(budget="2"), resume=run_id)
    assert final.parent == tmp_path / "a"
    assert store.load_state(final)["step"] == 2
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "empty").mkdir()
    for name in ("12345678", str(tmp_path / "empty")):
        with pytest.raises(InputError, match=r"holds no checkpoint|no checkpoint of such a run"):
            store.find_run(name, tmp_path / "b")
    with pytest.raises(InputError, match=r"put KEY=VALUE before `resume`"):
        store.find_run("growth=8", tmp_path / "b")


def test_a_full_disk_while_training(photos, tmp_path, monkeypatch):
    """The run goes on without a checkpoint and without the log, says so, and saves when there is room again."""
    said: list[str] = []
    save, tries = store.save_file, []

    def full_at_first(*args):
        tries.append(args)
        if len(tries) < 4:
            raise OSError(28, "No space left on device")
        save(*args)

    monkeypatch.setattr(store, "save_file", full_at_first)
    final = train(tmp_path, photos, TINY.but(checkpoint_minutes=0), say=said.append)
    assert store.load_state(final)["step"] == 6
    assert sum("No space left" in line and "goes on" in line for line in said) == 3
    assert sum("No space left" in record.get("alert", "") for record in records(tmp_path)) == 3


def test_a_damaged_checkpoint_is_named(photos, tmp_path):
    saved = train(tmp_path, photos, TINY.but(budget="1"))
    weights = load_file(saved / "weights-00.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, saved / "weights-00.safetensors")
    with pytest.raises(ModelError, match=saved.name):
        train(tmp_path, photos, resume=True)
    (saved / "weights-00.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="unreadable"):
        train(tmp_path, photos, resume=True)
    (saved / "state.json").write_text("{}")
    with pytest.raises(ModelError, match=r"state\.json"):
        train(tmp_path, photos, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "abc"},
        {"step": None},
        {"step": [1]},
        {"step": -1},
        {"seconds": None},
        {"seconds": "x"},
        {"seconds": float("nan")},
        {"bad_steps": None},
        {"recent_loss": "x"},
        {"epoch": "x"},
        {"run_id": 5},
        {"recipe": None},
        {"recipe": "x"},
        {"recipe": {"network": "x"}},
        {"base_digest": 5},
    ],
)
def test_a_damaged_state_is_named(tmp_path, change):
    saved = Trainer(TINY, out=tmp_path, device=CPU).save()
    file = saved / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert store.checkpoints(tmp_path) == [saved]
    for use in (lambda: store.export(tmp_path), lambda: Trainer(TINY, out=tmp_path, device=CPU, resume=True)):
        with pytest.raises(ModelError, match=rf"{saved.name}: state\.json has no valid {next(iter(change))}"):
            use()
    file.write_text("[" * 200_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        store.export(tmp_path)


def test_starting_from_a_model_file(photos, tmp_path):
    save_file(store.export(train(tmp_path / "first", photos))[0], tmp_path / "start.safetensors")
    recipe = TINY.but(init=str(tmp_path / "start.safetensors"))
    trainer = Trainer(recipe, out=tmp_path / "second", device=CPU)
    expected = store.export(tmp_path / "first")[0]
    assert torch.equal(trainer.average, trainer.parameters.values)
    for name, tensor in trainer.net.state_dict().items():
        assert torch.equal(tensor, expected[name].float())
    with pytest.raises(ModelError, match="does not fit the recipe"):
        Trainer(recipe.but(growth=8), out=tmp_path / "second", device=CPU)
    (tmp_path / "start.safetensors").write_text("nonsense")
    with pytest.raises(ModelError, match="not a safetensors file"):
        Trainer(recipe, out=tmp_path / "second", device=CPU)
