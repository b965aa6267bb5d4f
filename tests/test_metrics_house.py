"""The house features and the scores by them: frozen, equal to their definition, and worse where a picture is worse."""

from __future__ import annotations

import json
import math
from importlib import resources

import numpy as np
import pytest
import safetensors.torch
import torch
from commandline import picture, runner
from damaged import WORSE, astronaut, noisy, tensor
from torch import nn

from irnscale.errors import ModelError
from irnscale.metrics.features import SMALLEST, STAGES, Features, convolutions, from_bytes
from irnscale.metrics.house import SHA256, distance, frozen, house, outputs
from irnscale.metrics.scores import Seen, chosen
from irnscale.metrics.sets import frechet_distance, kernel_distance

SETS = ("frechet-house", "kid-house")


def data() -> bytes:
    return (resources.files("irnscale") / "assets" / "house.safetensors").read_bytes()


def layers(state) -> nn.Sequential:
    """The same network of torch's modules, in float64."""
    found: list[nn.Module] = []
    for name, width, channels, kernel, stride in convolutions():
        if name.endswith(".0") and found:
            found.append(nn.AvgPool2d(2))
        conv = nn.Conv2d(width, channels, kernel, stride, padding=kernel // 2)
        conv.load_state_dict({part: state[f"{name}.{part}"].double() for part in ("weight", "bias")}, assign=True)
        found += [conv, nn.ReLU()]
    return nn.Sequential(*found)


def test_what_ships_is_frozen():
    features = house()
    assert SHA256.startswith(features.digest)
    assert 1e6 < sum(x.numel() for x in features.state.values()) < 1.5e6
    assert len(data()) < 3_000_000
    said = (resources.files("irnscale") / "assets" / "house.txt").read_text(encoding="utf-8")
    assert SHA256 in said, "its origin is told of this very file"


@pytest.mark.parametrize("place", [100, 20_000, -1])
def test_a_file_that_was_tampered_with_is_refused(place):
    changed = bytearray(data())
    changed[place] ^= 1
    with pytest.raises(ModelError, match=r"house\.safetensors.*not the network"):
        frozen(bytes(changed))


def test_what_are_no_features_is_named():
    foreign = safetensors.torch.save({"stage.0.0.weight": torch.zeros(3)})
    for content in (b"", data()[:5000], foreign):
        with pytest.raises(ModelError, match="mine"):
            from_bytes(content, "mine.safetensors")


def test_house_lpips_is_its_definition():
    """By torch's own modules in float64; in float32 it reads the same to four digits."""
    features = house()
    a, b = tensor(astronaut()[:128, :160]).double(), tensor(noisy(12)[:128, :160]).double()
    total, x, y, found = 0.0, 4 * a - 2, 4 * b - 2, []
    with torch.no_grad():
        for layer in (whole := layers(features.state)):
            x, y = layer(x), layer(y)
            found.append((x, y))
        ends = [k for k, layer in enumerate(whole) if isinstance(layer, nn.AvgPool2d)]
        stages = [found[k - 1] for k in ends] + [found[-1]]
        for one, other in stages:
            units = (nn.functional.normalize(v, dim=1) for v in (one, other))
            total += float(torch.stack(list(units)).diff(dim=0).square().sum(2).mean())
    assert [one.shape[1] for one, _ in stages] == [widths[-1] for widths in STAGES]
    assert distance(features, a, b) == pytest.approx(total, rel=1e-9)
    assert distance(features, a.float(), b.float()) == pytest.approx(total, rel=1e-4)
    assert distance(features, b, a) == pytest.approx(total, rel=1e-9)
    assert distance(features, a, a) == 0
    small = a[..., : SMALLEST - 1]
    assert math.isnan(distance(features, small, small))
    pooled = stages[-1][0].mean(dim=(2, 3))
    weight, bias = (features.state[f"output.{part}"].double() for part in ("weight", "bias"))
    with torch.no_grad():
        assert torch.allclose(features.output(a), pooled @ weight.T + bias)


def test_the_patches_of_a_picture_are_looked_at_one_by_one():
    """Side by side and once more between: none knows of the others in its batch."""
    x = tensor(astronaut()[:150, :200])
    found = outputs(house(), x)
    wanted = [(64 * k, 64 * n) for k in range(2) for n in range(3)]
    wanted += [(32, 32), (32, 96)]
    assert len(found) == len(wanted)
    with torch.no_grad():
        for row, (top, left) in zip(found, wanted, strict=True):
            alone = house().output(x[:, :, top : top + 64, left : left + 64])
            assert torch.allclose(row, alone[0], atol=1e-4)
    assert outputs(house(), x[:, :, :63]).shape == (0, 64)
    assert len(outputs(house(), x[:, :, :95, :95])) == 1


def test_gradients_pass_through_to_the_picture():
    x = tensor(astronaut()[:64, :64]).requires_grad_()
    sum(stage.square().mean() for stage in house().stages(x)).backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("damage", WORSE)
def test_more_damage_reads_worse(damage):
    """Each score: of one picture, and of the set of its patches."""
    plain = tensor(astronaut())
    before = outputs(house(), plain)
    same = kernel_distance(before, before).value  # below 0, as these are no two samples
    reads: dict[str, list[float]] = {"house-lpips": [], "frechet": [], "kid": []}
    for k in range(4):
        worse = tensor(WORSE[damage](k))
        after = outputs(house(), worse)
        reads["house-lpips"].append(distance(house(), worse, plain))
        reads["frechet"].append(frechet_distance(after, before))
        reads["kid"].append(kernel_distance(after, before).value - same)
    for name, values in reads.items():
        rises = np.diff(values) > (-1e-3 if name == "kid" else 0)  # far below what its deviation is
        assert rises.all(), name
        assert values[-1] > 2 * values[0] >= 0, name


def test_a_set_is_near_itself_and_halves_are_the_floor():
    """Of the whole set against itself; of its halves, which damage that is easily seen exceeds."""
    parts = outputs(house(), tensor(astronaut()))
    assert parts.mean().abs() < 0.5, "as over the photographs that it was taught on"
    assert 0.7 < parts.std() < 1.4
    assert frechet_distance(parts, parts) == pytest.approx(0, abs=1e-6)
    same, spoilt = (kernel_distance(x, parts).value for x in (parts, outputs(house(), tensor(noisy(40)))))
    assert -0.1 * spoilt < same <= 0, "unbiased, of samples that are no different ones: below 0"
    parts = parts[torch.randperm(len(parts), generator=torch.Generator().manual_seed(0))]
    halves = kernel_distance(parts[::2], parts[1::2])
    assert abs(halves.value) < spoilt / 4


def test_scores_by_the_house_features_say_so():
    found = chosen(["house-lpips", *SETS])
    assert found.by == f"LPIPS (house), Frechet (house), KID (house) by house features {SHA256[:8]}"
    assert all(SHA256[:8] in score.identity for score in found.more)
    assert not any("fid" in (score.name + score.title).lower() for score in found.more)
    seen = Seen(tensor(astronaut()), tensor(astronaut()[::4, ::4]), tensor(noisy(3)), 4)
    (score, *sets) = found.more
    assert 0 < score.of(seen) < 1
    assert all(score.of is None for score in sets), "no photograph has it"


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    return runner(capfdbinary, monkeypatch)


def test_house_scores_on_the_command_line(run, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in "ab":
        picture(folder / f"{name}.png", 200, 168)
    picture(tmp_path / "small.png", 64, 64)
    command = "evaluate", "--data", folder, "-s", 2, "--metrics", ",".join(["house-lpips", *SETS]), "-m", "irn-x2"
    rows = {row["method"]: row for row in map(json.loads, run(*command, "--json").text.splitlines())}
    for key in ("house_lpips", "frechet_house", "kid_house"):
        assert rows["irn-x2"][key] < rows["bicubic"][key], key
        assert SHA256[:8] in rows["bicubic"]["by"][key]
    assert rows["irn-x2"]["deviation"]["kid_house"] > 0
    shown = run(*command)
    assert shown.text.splitlines()[-1].endswith(f"by house features {SHA256[:8]}")
    assert "set x2, half of the photographs' patches against the other half: Frechet (house)" in shown.text
    checked = run("check", tmp_path / "small.png", "-s", 2, "--metrics", "house-lpips")
    assert SHA256[:8] in checked.text
    refused = run("check", tmp_path / "small.png", "-s", 2, "--metrics", "frechet-house")
    assert (refused.code, len(refused.lines)) == (2, 1)
    assert "irnscale evaluate" in refused.lines[0]


def test_features_are_their_tensors():
    state = dict(house().state)
    del state["output.bias"]
    with pytest.raises(ValueError, match="house features"):
        Features(state, "x")
