"""Importing SRFlow: a checkpoint of the published layout, its arithmetic on its own names, files that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commandline import runner
from conftest import synthetic_photo
from PIL import Image
from torch import Tensor

from irnscale.errors import ModelError
from irnscale.networks.families.rrdb import RRDBConfig
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.srflow import SRFlow
from irnscale.zoo import find
from irnscale.zoo.official import read_official
from irnscale.zoo.official_srflow import is_srflow, read_srflow

P = "flowUpsamplerNet."


def checkpoint(
    *, blocks: int = 8, growth: int = 4, steps: int = 1, hidden: int = 8, scale: int = 4, spread: float = 0.03
) -> dict[str, Tensor]:
    """Random weights by the names and shapes that SRFlow's code stores."""
    state: dict[str, Tensor] = {}

    def conv(name: str, inputs: int, outputs: int, *, side: int = 3, bias: bool = True) -> None:
        state[f"{name}.weight"] = spread * torch.randn(outputs, inputs, side, side)
        if bias:
            state[f"{name}.bias"] = spread * torch.randn(outputs)

    def subnet(name: str, inputs: int, outputs: int) -> None:
        for part, (i, side) in {"0": (inputs, 3), "2": (hidden, 1)}.items():
            conv(f"{name}.{part}", i, hidden, side=side, bias=False)
            state[f"{name}.{part}.actnorm.bias"] = spread * torch.randn(1, hidden, 1, 1)
            state[f"{name}.{part}.actnorm.logs"] = spread * torch.randn(1, hidden, 1, 1)
        zero_conv(f"{name}.4", hidden, outputs)

    def zero_conv(name: str, inputs: int, outputs: int) -> None:
        conv(name, inputs, outputs)
        state[f"{name}.logs"] = spread * torch.randn(outputs, 1, 1)

    conv("RRDB.conv_first", 3, 64)
    for b in range(blocks):
        for d in range(1, 4):
            for k in range(1, 6):
                conv(f"RRDB.RRDB_trunk.{b}.RDB{d}.conv{k}", 64 + (k - 1) * growth, growth if k < 5 else 64)
    for name in ("trunk_conv", "upconv1", "upconv2", *(["upconv3"] if scale == 8 else []), "HRconv"):
        conv(f"RRDB.{name}", 64, 64)
    conv("RRDB.conv_last", 64, 3)
    levels, channels, layer = (3 if scale == 4 else 4), 3, 0
    for level in range(levels):
        channels, layer = 4 * channels, layer + 1
        for step in range(2 + steps):
            name = f"{P}layers.{layer}"
            state[f"{name}.actnorm.bias"] = spread * torch.randn(1, channels, 1, 1)
            state[f"{name}.actnorm.logs"] = spread * torch.randn(1, channels, 1, 1)
            q, _ = torch.linalg.qr(torch.randn(channels, channels))
            state[f"{name}.invconv.weight"] = q + 0.01 * torch.randn(channels, channels)
            if step >= 2:
                subnet(f"{name}.affine.fAffine", channels // 2 + 320, 2 * (channels - channels // 2))
                subnet(f"{name}.affine.fFeatures", 320, 2 * channels)
            layer += 1
        if level < levels - 2:
            zero_conv(f"{P}layers.{layer}.conv", channels - channels // 2, 2 * (channels // 2))
            channels, layer = channels - channels // 2, layer + 1
    conv(f"{P}f", 320, 96)
    return state


def theirs(state: dict[str, Tensor], lr: Tensor, latents: list[Tensor], steps: int) -> Tensor:
    """The inverse of the published x4 network of 8 blocks, written out on the published names."""

    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def zero_conv(name: str, x: Tensor) -> Tensor:
        return conv(name, x) * torch.exp(3 * state[f"{name}.logs"])

    def act(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2)

    def subnet(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        for part in ("0", "2"):
            x = conv(f"{name}.{part}", x) + state[f"{name}.{part}.actnorm.bias"]
            x = torch.relu(x * state[f"{name}.{part}.actnorm.logs"].exp())
        x = zero_conv(f"{name}.4", x)
        return x[:, 0::2], torch.sigmoid(x[:, 1::2] + 2) + 1e-4

    x = conv("RRDB.conv_first", lr)
    taps = []
    for b in range(8):
        r = x
        for d in range(1, 4):
            features = [r]
            for k in range(1, 5):
                features.append(act(conv(f"RRDB.RRDB_trunk.{b}.RDB{d}.conv{k}", torch.cat(features, dim=1))))
            r = r + 0.2 * conv(f"RRDB.RRDB_trunk.{b}.RDB{d}.conv5", torch.cat(features, dim=1))
        x = x + 0.2 * r
        taps += [x] if b in (1, 3, 5, 7) else []
    last = x + conv("RRDB.trunk_conv", x)
    up = conv("RRDB.upconv1", F.interpolate(last, scale_factor=2))
    half = F.interpolate(last, scale_factor=0.5, mode="bilinear")
    joined = torch.cat(taps, dim=1)
    conditions = [torch.cat((f, F.interpolate(joined, size=f.shape[2:])), dim=1) for f in (up, last, half)]

    z, layer, held = latents[-1], 3 * (3 + steps) + 1, list(latents[:-1])
    for level in (2, 1, 0):
        if level == 0:
            layer -= 1
            raw = zero_conv(f"{P}layers.{layer}.conv", z)
            z = torch.cat((z, raw[:, 0::2] + raw[:, 1::2].exp() * held.pop()), dim=1)
        for step in reversed(range(2 + steps)):
            layer -= 1
            name = f"{P}layers.{layer}"
            if step >= 2:
                half_channels = z.shape[1] // 2
                z1, z2 = z[:, :half_channels], z[:, half_channels:]
                shift, scale = subnet(f"{name}.affine.fAffine", torch.cat((z1, conditions[level]), dim=1))
                z = torch.cat((z1, z2 / scale - shift), dim=1)
                shift, scale = subnet(f"{name}.affine.fFeatures", conditions[level])
                z = z / scale - shift
            inverse = torch.inverse(state[f"{name}.invconv.weight"])
            z = torch.einsum("ij,njhw->nihw", inverse, z)
            z = z * (-state[f"{name}.actnorm.logs"]).exp() - state[f"{name}.actnorm.bias"]
        layer -= 1
        z = F.pixel_shuffle(z, 2)
    assert layer == 0
    return z


def test_the_arithmetic_is_theirs(tmp_path):
    state = checkpoint(steps=2)
    torch.save(state, tmp_path / "their.pth")
    config, tensors = read_official(tmp_path / "their.pth")
    assert config == SRFlowConfig(rrdb_blocks=8, rrdb_growth=4, flow_steps=2, flow_hidden=8)
    net = SRFlow(config)
    net.load_state_dict(tensors)
    lr = torch.rand(1, 3, 4, 6)
    latents = net.latents(lr, seed=3, temperature=0.8)
    expected = theirs(
        {name: value.double() for name, value in state.items()}, lr.double(), [z.double() for z in latents], steps=2
    )
    result = net.double().flow.decode([z.double() for z in latents], net.encoded(lr.double()))
    torch.testing.assert_close(result, expected)
    assert sum(t.numel() for t in tensors.values()) == sum(t.numel() for t in state.values()) - 320 * 96 * 9 - 96


def test_the_published_layout_has_1733_tensors():
    state = checkpoint(blocks=23, growth=32, steps=16, hidden=64)
    assert len(state) == 1733
    assert sum(t.numel() for t in state.values()) == 39_541_811
    for key in ("19.conv.weight", "57.affine.fFeatures.4.logs", "41.invconv.weight"):
        assert f"{P}layers.{key}" in state
    assert not any(f"{P}layers.{n}." in key for n in (0, 20, 39) for key in state)
    from pathlib import Path

    config, tensors = read_srflow(Path("SRFlow_DF2K_4X.pth"), state)
    assert config == SRFlowConfig()
    assert len(tensors) == 1731
    assert sum(t.numel() for t in tensors.values()) == 39_265_235
    own = SRFlow(config).state_dict()
    assert {name: t.shape for name, t in tensors.items()} == {name: t.shape for name, t in own.items()}
    weight = state[f"{P}layers.41.invconv.weight"]
    assert torch.equal(tensors["flow.levels.2.module_list.4.weight"], weight)


def test_x8_and_rrdb_alone(tmp_path):
    config, _ = read_srflow(tmp_path, checkpoint(scale=8))
    assert config == SRFlowConfig(scale=8, rrdb_blocks=8, rrdb_growth=4, flow_steps=1, flow_hidden=8)
    alone = {k.removeprefix("RRDB."): v for k, v in checkpoint(blocks=2).items() if k.startswith("RRDB.")}
    assert is_srflow(alone)
    torch.save({"params": {f"module.{k}": v for k, v in alone.items()}}, tmp_path / "rrdb.pth")
    config, tensors = read_official(tmp_path / "rrdb.pth")
    assert config == RRDBConfig(rrdb_blocks=2, rrdb_growth=4)
    assert torch.equal(tensors["encoder.trunk.1.blocks.2.conv5.weight"], alone["RRDB_trunk.1.RDB3.conv5.weight"])
    assert not is_srflow({"operations.1.F.conv1.weight": torch.zeros(1)})


def without(key: str) -> dict[str, Tensor]:
    return {name: value for name, value in checkpoint().items() if name != key}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(f"{P}layers.3.affine.fAffine.4.logs"), r"lacks .*fAffine.4.logs of SRFlow x4"),
        (lambda s: s.update({f"{P}layers.3.invconv.weight": torch.eye(11)}), r"invconv.weight has shape \(11, 11\)"),
        (lambda s: s.update({f"{P}layers.999999999.affine.fAffine.0.weight": torch.zeros(8, 1, 3, 3)}), "4 steps"),
        (lambda s: s.update({f"{P}layers.3.extra": torch.zeros(2)}), "'flowUpsamplerNet.layers.3.extra'"),
        (lambda s: s.update({f"{P}layers.3.actnorm.bias": "text"}), "is not a weight"),
        (lambda s: s["RRDB.conv_first.bias"].fill_(float("nan")), "not finite"),
        (lambda s: s.pop("RRDB.RRDB_trunk.0.RDB1.conv1.weight"), "no RRDB network that is whole"),
        (lambda s: s.pop("RRDB.RRDB_trunk.7.RDB1.conv1.weight"), "blocks are read is known of"),
        (lambda s: s.update({f"{P}layers.3.affine.fAffine.0.weight": torch.zeros(8)}), "is no convolution"),
        (lambda s: s.update({f"{P}layers.3.extra": torch.zeros(1).expand(10**12)}), "is not a weight"),
        (
            lambda s: s.update({"RRDB.RRDB_trunk.0.RDB1.conv1.weight": torch.zeros(1).expand(9999, 64, 3, 3)}),
            "9999 channels wide",
        ),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, words):
    state = checkpoint()
    change(state)
    torch.save(state, tmp_path / "their.pth")
    with pytest.raises(ModelError, match=words):
        read_official(tmp_path / "their.pth")


def test_import_and_use(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    run = runner(capfdbinary, monkeypatch)
    torch.save(checkpoint(), tmp_path / "their.pth")
    result = run("models", "import", "their.pth", "--name", "srflow")
    assert result.code == 0, result.lines
    assert "SRFlow x4, use it with `irnscale up --sr -m srflow`" in result.lines[0]
    card = find("srflow").card
    assert (card.kind, card.scale, card.description) == ("srflow", 4, "SRFlow x4, imported")
    Image.fromarray(synthetic_photo(6, 9)).save("small.png")
    result = run("up", "--sr", "-m", "srflow", "small.png", "-o", "large.png")
    assert result.code == 0, result.lines
    with Image.open("large.png") as image:
        assert np.asarray(image).shape == (24, 36, 3)
