"""The models: cards, fp16 storage, and importing checkpoints of the paper's code without running them."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commandline import Run, copied_model, files, runner
from safetensors.torch import load_file

import irnscale
from irnscale.errors import ModelError, OutputError
from irnscale.networks import IRN, IRNConfig
from irnscale.zoo import find, find_all, load_network, models, read_card, verify
from irnscale.zoo.names import family, generation
from irnscale.zoo.official import read_official
from irnscale.zoo.save import save_model
from irnscale.zoo.store import compose, default_model, shipped_folder, user_folder

MAX_BYTES = 15 * 10**6
"""Of a file of weights that ships."""
FIRST = "operations.1.F.conv1.weight"
PAPERS = {"p": "F", "s": "H", "t": "G"}


@pytest.fixture(autouse=True)
def _own_models(monkeypatch, tmp_path):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    """The command line."""
    return runner(capfdbinary, monkeypatch)


def official(name: str = "irn-x2", prefix: str = "") -> dict[str, torch.Tensor]:
    """A shipped model as the paper's code would have saved it, with its frozen Haar filters."""
    state = {}
    for key, value in load_file(find(name).weights).items():
        _, index, subnet, rest = key.split(".", 3)
        state[f"{prefix}operations.{index}.{PAPERS[subnet]}.{rest}"] = value.float()
    for level in range(find(name).card.scale // 2):
        state[f"{prefix}operations.{9 * level}.haar_weights"] = torch.ones(12, 1, 2, 2)
    return state


def imported(state, path: Path) -> dict[str, torch.Tensor]:
    torch.save(state, path)
    return read_official(path)[1]


@pytest.mark.parametrize("name", ["irn-x2", "irn-jpeg-x4"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_weights_are_imported_exactly(tmp_path, name, prefix):
    torch.save(official(name, prefix), tmp_path / "their.pth")
    config, tensors = read_official(tmp_path / "their.pth")
    assert config == IRNConfig(**find(name).card.architecture)
    own = {key: value.float() for key, value in load_file(find(name).weights).items()}
    assert tensors.keys() == own.keys()
    assert all(torch.equal(tensors[key], own[key]) for key in own)
    IRN(config).load_state_dict(tensors)


@pytest.mark.parametrize("wrapper", ["state_dict", "params", "params_ema"])
def test_wrapped_and_half_precision_checkpoints(tmp_path, wrapper):
    state = official()
    wrapped = imported({wrapper: {key: value.half() for key, value in state.items()}, "epoch": 3}, tmp_path / "a.pth")
    plain = imported(state, tmp_path / "b.pth")
    assert all(wrapped[key].dtype == torch.float32 and torch.equal(wrapped[key], plain[key]) for key in plain)


def test_the_paper_computes_the_same(tmp_path):
    """F updates the small part, H scales and G shifts the other: mixed up, the pictures would differ."""
    tensors = imported(official(), tmp_path / "a.pth")
    net = IRN(IRNConfig(scale=2))
    net.load_state_dict(tensors)
    x = torch.rand(3, 8, 8)
    ours = irnscale.load(2, device="cpu", precision="float32").down(x)
    with torch.no_grad():
        assert (net.downscale(x[None])[0][0].clamp(0, 1) - ours).abs().max() < 0.51 / 255
        swapped = {k.replace(".s.", ".x.").replace(".t.", ".s.").replace(".x.", ".t."): v for k, v in tensors.items()}
        net.load_state_dict(swapped)
        assert (net.downscale(x[None])[1] - load_network(find("irn-x2")).downscale(x[None])[1]).abs().max() > 0.01


def test_import_and_use(run, tmp_path):
    path = tmp_path / "their.pth"
    torch.save(official(prefix="module."), path)
    result = run("models", "import", path, "--name", "theirs")
    assert result.code == 0
    assert "-m theirs" in result.lines[0]
    assert files(tmp_path / "models") == ["theirs.json", "theirs.safetensors"]
    model = find("theirs")
    assert (model.card.scale, model.shipped) == (2, False)
    assert "their.pth, sha256 " in model.card.origin
    x = torch.rand(3, 9, 8)
    ours = irnscale.load("theirs", device="cpu", precision="float32").down(x)
    assert torch.equal(ours, irnscale.load("irn-x2", device="cpu", precision="float32").down(x))
    assert run("models", "import", path, "--name", "theirs").code == 5
    assert run("models", "import", path, "--name", "theirs", "--overwrite").code == 0
    assert "theirs" in run("models", "list").text
    path.write_bytes(b"junk that is never read, since the name is refused first")
    for name in ("irn-x2", "a/b", "../a", "", ".hidden", "a+b", "x.safetensors"):
        for command in ("import", "export"):
            result = run("models", command, path, "--name", name)
            assert (result.code, len(result.lines)) == (3, 1), name
            assert f"{name!r} is " in result.lines[0]
    assert files(tmp_path / "models") == ["theirs.json", "theirs.safetensors"]


def test_models_that_cannot_be_kept(run, tmp_path, monkeypatch):
    torch.save(official(), tmp_path / "a.pth")
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "a.pth" / "deeper"))
    result = run("models", "import", tmp_path / "a.pth", "--name", "x")
    assert (result.code, len(result.lines)) == (5, 1)
    assert "IRNSCALE_MODELS" in result.lines[0]
    with pytest.raises(OutputError) as caught:
        save_model(tmp_path / "a.pth", "x", IRNConfig(scale=2), {})
    assert caught.value.line.endswith("(give another with --to)")


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def with_nan() -> dict[str, torch.Tensor]:
    state = official()
    state["operations.2.H.conv3.bias"][1] = float("nan")
    return state


def without(key: str) -> dict[str, torch.Tensor]:
    state = official()
    del state[key]
    return state


def renamed(old: str, new: str) -> dict[str, torch.Tensor]:
    return {key.replace(old, new): value for key, value in official().items()}


FOREIGN = {
    "another network": (lambda: {"conv_first.weight": torch.zeros(3)} | official(), "'conv_first.weight'"),
    "a text": (lambda: official() | {FIRST: "text"}, f"'{FIRST}'"),
    "whole numbers": (lambda: official() | {FIRST: torch.zeros(2, dtype=torch.int64)}, f"'{FIRST}'"),
    "sparse": (lambda: official() | {FIRST: torch.eye(3).to_sparse()}, f"'{FIRST}'"),
    "shape": (lambda: official() | {FIRST: torch.zeros(1, 2)}, f"{FIRST} has shape (1, 2)"),
    "lacking": (lambda: without("operations.3.G.conv2.bias"), "lacks operations.3.G.conv2.bias"),
    "not finite": (with_nan, "operations.2.H.conv3.bias holds values that are not finite"),
    "large": (lambda: official() | {FIRST: torch.full((32, 9, 3, 3), 1e6)}, "float16"),
    "endless": (lambda: official() | {FIRST: torch.zeros(1).expand(10**11)}, f"{FIRST} has shape (100000000000,)"),
    "digits": (lambda: renamed("operations.8.", f"operations.{'9' * 5000}."), "is not a weight of the paper's IRN"),
    "far": (lambda: renamed("operations.8.", "operations.999999999."), "not laid out"),
    "no level": (lambda: renamed("operations.1.", "operations.0."), "not laid out"),
    "list": (lambda: [1, 2], "no dictionary"),
    "empty": (dict, "no dictionary"),
    "tensor": (lambda: torch.zeros(3), "no dictionary"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_checkpoints(run, tmp_path, kind):
    make, words = FOREIGN[kind]
    torch.save(make(), tmp_path / "foreign.pth")
    result = run("models", "import", tmp_path / "foreign.pth", "--name", "x")
    assert (result.code, len(result.lines)) == (3, 1)
    assert result.lines[0].startswith("irnscale: error: ")
    assert words in result.lines[0]
    assert files(tmp_path) == ["foreign.pth"]


def test_pickles_are_not_executed(run, tmp_path):
    path, mark = tmp_path / "trap.pth", tmp_path / "mark"
    torch.save(official() | {"operations.1.F.conv1.bias": Trap(mark)}, path)
    code, junk = f"would run {os.mkdir.__module__}.mkdir of", "no checkpoint of PyTorch"
    for content, reason in [
        (path.read_bytes(), code),
        (pickle.dumps(Trap(mark), protocol=2), code),
        (b"", "empty"),
        (b"PK\x03\x04 no archive", junk),
        (b"text", junk),
        (random.Random(0).randbytes(300), junk),
    ]:
        path.write_bytes(content)
        result = run("models", "import", path, "--name", "x")
        assert (result.code, len(result.lines)) == (3, 1)
        assert result.lines[0].startswith(f"irnscale: error: {path}: ")
        assert reason in result.lines[0]
        assert result.lines[0].endswith(" (give an IRN checkpoint of the paper's code)")
        assert files(tmp_path) == ["trap.pth"]
    for missing in (tmp_path / "none.pth", tmp_path):
        assert "no such file" in run("models", "import", missing, "--name", "x").lines[0]
    pickle.loads(pickle.dumps(Trap(mark), protocol=2))
    assert mark.exists(), "the trap itself works"


def test_float16_storage(tmp_path):
    net = IRN(IRNConfig(scale=2))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model = save_model(tmp_path, "own", net.config, net.state_dict(), description="ä", scores={"Set5": {"psnr_y": 1.5}})
    stored = load_file(model.weights)
    assert all(value.dtype == torch.float16 for value in stored.values())
    assert all(torch.equal(stored[key], value.half()) for key, value in net.state_dict().items())
    assert model.weights.stat().st_size < MAX_BYTES
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in load_network(model).parameters())
    with pytest.raises(OutputError, match="already exists"):
        save_model(tmp_path, "own", net.config, net.state_dict())


def test_shipped_models():
    assert [m.card.name for m in models()] == sorted(
        (p.stem for p in shipped_folder().glob("*.safetensors")), key=lambda name: (family(name), generation(name))
    )
    released = json.loads((Path(__file__).parent / "kept" / "released.json").read_text())
    assert released.keys() <= {m.card.name for m in models()}
    for model in models():
        verify(model)
        card = model.card
        assert model.weights.stat().st_size < MAX_BYTES
        assert all(value.dtype == torch.float16 for value in load_file(model.weights).values())
        assert card.description
        assert card.licence
        assert card.data
        assert card.training
        for name in ("Set5", "Set14", "Kodak24"):
            key = name + ", bicubic LR" * (card.kind != "irn")
            assert {"psnr_y", "ssim_y", "lr_psnr_y", "lr_ssim_y"} <= card.scores[key].keys()
        assert not card.jpeg_resistant or {f"Set5, JPEG {q} 4:2:0" for q in (30, 50, 70, 80, 90)} <= card.scores.keys()
    assert [family(m.card.name) for m in compose(16)] == ["irn-x4", "irn-x4"]
    with pytest.raises(ModelError, match="installed: x2, x4"):
        compose(3)


def test_card_round_trip(tmp_path):
    card = replace(find("irn-x4").card, name="eigenes-ü", precisions=("float32", "bfloat16"))
    path = tmp_path / "card.json"
    path.write_text(card.to_json(), encoding="utf-8")
    assert read_card(path) == card
    later = json.loads(card.to_json()) | {"invented_later": 1}
    path.write_text(json.dumps(later))
    assert read_card(path) == card
    assert card.digest == card.sha256[:12]


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": 3},
        {"scale": "4"},
        {"architecture": []},
        {"sha256": None},
        {"scores": {"Set5": "good"}},
        {"scores": {"Set5": {"psnr_y": "good"}}},
        {"scores": {"Set5": {"psnr_y": 10**400}}},
        {"precision_costs": {"bfloat16": {"Set5": 10**400}}},
        {"architecture": {"scale": 2, "clamp": 10**400}},
        {"architecture": {"scale": 2, "inv_per_ds": [10**400]}},
        {"scale": 0},
        {"scale": 1},
        {"scale": True},
        {"scale": 10**400},
        {"name": "own\nirn-x9  x9  down, up"},
        {"base": "\x1b[2K"},
        {"precisions": 5},
        {"precisions": [1]},
        {"precision_costs": [0.1]},
        {"precision_costs": {"bfloat16": {"Set5": "little"}}},
        {"jpeg_resistant": "no"},
        {"training": "long"},
    ],
)
def test_broken_cards(tmp_path, run, change):
    weights = copied_model(tmp_path / "models")
    card = weights.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    for command in (("models", "list"), ("down", "x.png", "-m", weights), ("down", "x.png", "-m", "own"), ("doctor",)):
        result = run(*command)
        assert (result.code, len(result.lines)) == (3, 1)
        assert "own.json: the model card" in result.lines[0]
        assert command[0] == "down" or b"irn-x4" in result.stdout, "the others are shown"
    assert find("irn-x4").shipped, "the others are not affected"
    assert default_model(4).shipped


def test_a_score_without_a_value_is_no_score(tmp_path, run):
    """As 0.1.0 wrote it of pictures too small for SSIM: the model, and what was shrunk by it, stay readable."""
    card = copied_model(tmp_path / "models").with_suffix(".json")
    scores = {"Tiny": {"psnr_y": 31.5, "ssim_y": math.nan}, "None": {"psnr_y": math.inf}}
    card.write_text(json.dumps(json.loads(card.read_text()) | {"scores": scores}))
    assert read_card(card).scores == {"Tiny": {"psnr_y": 31.5}, "None": {}}
    assert "nan" not in run("models", "list").text


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"3", b"[" * 200_000])
def test_cards_that_are_no_cards(tmp_path, content):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.json").write_bytes(content)
    with pytest.raises(ModelError, match="model card is not"):
        models()


def test_only_files_are_cards(tmp_path, run):
    """A pipe would be waited for, and so would weights."""
    (tmp_path / "models" / "folder.json").mkdir(parents=True)
    os.mkfifo(tmp_path / "models" / "pipe.json")
    assert run("models", "list").code == 0
    weights = copied_model(tmp_path / "models")
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(ModelError, match=r"own\.safetensors: damaged"):
        verify(find("own"))


def test_families_that_no_module_is(tmp_path, run):
    card = copied_model(tmp_path / "models").with_suffix(".json")
    for kind in ("__init__", "nothing", ""):
        card.write_text(json.dumps(json.loads(card.read_text()) | {"kind": kind}))
        result = run("models", "list")
        assert result.code == 0
        assert "?" in next(line for line in result.text.splitlines() if line.startswith("own "))
        with pytest.raises(ModelError, match=rf"own: its family, {kind}, is not installed"):
            load_network(find("own"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_a_model_both_files_are_written_or_neither(tmp_path, overwrite):
    net = IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4))
    card = tmp_path / "own.json"
    if overwrite:
        card.mkdir()
    else:
        card.write_text("of another model")
    with pytest.raises(OutputError, match=r"own\.json: " + ("is a folder" if overwrite else "already exists")):
        save_model(tmp_path, "own", net.config, net.state_dict(), overwrite=overwrite)
    assert files(tmp_path) == ["own.json"]


def test_finding(tmp_path, monkeypatch):
    (tmp_path / "a+b").mkdir()
    weights = copied_model(tmp_path / "a+b")
    assert [m.card.name for m in find_all(str(weights))] == ["own"], "a path may have a + in it"
    assert [m.card.name for m in find_all("irn-x4+irn-x2")] == ["irn-x4", "irn-x2"]
    weights.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"no model card own\.json beside it"):
        find(str(weights))
    copied_model(tmp_path / "models")
    impostor = tmp_path / "models" / "own.json"
    impostor.write_text(impostor.read_text().replace('"own"', '"irn-x2"'))
    assert find("irn-x2").shipped, "an imported model never stands in for a shipped one"
    monkeypatch.delenv("IRNSCALE_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder().parts[-2:] == ("irnscale", "models")
    assert shipped_folder().name == "checkpoints"
