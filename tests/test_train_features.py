"""How the house features are taught: the loss, the views, and the file that is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commandline import picture, runner
from conftest import synthetic_photo

from irnscale.errors import InputError
from irnscale.metrics.features import PATCH, from_bytes
from irnscale.train.features import AREA, FeatureNetwork, Pairs, as_file, barlow_twins, read, teach


def photographs(number: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.roll(synthetic_photo(120, 150), tuple(rng.integers(60, size=2)), (0, 1)) for _ in range(number)]


def test_barlow_twins_is_its_equation():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(40, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    other = one + 0.3 * other
    correlation = np.corrcoef(one.numpy().T, other.numpy().T)[:5, 5:]
    diagonal = np.diag(correlation)
    wanted = ((1 - diagonal) ** 2).sum() + 0.01 * ((correlation**2).sum() - (diagonal**2).sum())
    assert float(barlow_twins(one, other, 0.01)) == pytest.approx(wanted, rel=1e-3)
    assert float(barlow_twins(one, other, 0.01)) == pytest.approx(
        float(barlow_twins(3 * one - 1, other, 0.01)), rel=1e-3
    )


def test_views_are_pairs_of_a_crop():
    """Those of one pair are more alike than those of two, and the same generator gives the same."""
    first, second = (Pairs(photographs(), np.random.default_rng(3)).batch(6) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 6, 3, PATCH, PATCH)
    assert -1 < float(first.min()) < float(first.max()) < 3
    colours = first.mean(dim=(3, 4))
    gap = (colours[0, :, None] - colours[1, None]).square().sum(-1)
    assert gap.diagonal().mean() < gap.mean()
    assert not torch.equal(first[0], first[1])


def test_what_is_taught_is_what_is_kept():
    """The normalisation is folded into the weights; on the photographs, the output has mean 0 and variance 1."""
    losses: list[float] = []
    network = teach(photographs(), steps=6, batch=8, settling=6, seed=1, watch=lambda step, loss: losses.append(loss))
    assert len(losses) == 6
    assert min(losses[3:]) < losses[0]
    data = as_file(network)
    assert data == as_file(teach(photographs(), steps=6, batch=8, settling=6, seed=1)), "the same seed, the same file"
    features = from_bytes(data, "it")
    views = Pairs(photographs(), np.random.default_rng(5)).batch(128)[0]
    with torch.no_grad():
        taught, kept = network.features(views), features.output(views)
        stages = features.stages(views)
    assert torch.allclose(taught, kept, atol=0.02), "but for float16"
    assert kept.mean(0).abs().max() < 0.7
    assert 0.3 < kept.std(0).min() < kept.std(0).max() < 3, "small batches settle it roughly"
    assert [stage.shape[2] for stage in stages] == [32, 16, 8, 4, 2]
    assert all(bool((stage >= 0).all()) for stage in stages)


def test_an_untaught_network_folds_too():
    network = FeatureNetwork().eval()
    features = from_bytes(as_file(network), "it")
    x = torch.rand(2, 3, PATCH, PATCH)
    with torch.no_grad():
        assert torch.allclose(network.features(x), features.output(x), atol=1e-2)


def test_photographs_that_a_crop_fits_in(tmp_path):
    picture(tmp_path / "large.png", AREA + 5, AREA)
    picture(tmp_path / "small.png", AREA, AREA - 1)
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    unreadable: list[str] = []
    (found,) = read([tmp_path], unreadable)
    assert found.shape == (AREA, AREA + 5, 3)
    assert len(unreadable) == 1
    with pytest.raises(InputError, match="no photographs of at least"):
        read([tmp_path / "small.png"], [])


def test_features_on_the_command_line(capfdbinary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = runner(capfdbinary, monkeypatch)
    picture(tmp_path / "a.png", 120, 100)
    command = "train", "features", "--data", tmp_path / "a.png", "-o", "mine.safetensors", "--steps", 2, "--batch", 4
    result = run(*command)
    assert result.code == 0
    digest = from_bytes((tmp_path / "mine.safetensors").read_bytes(), "mine").digest
    assert f"features {digest} of 1 photographs" in result.lines[-1]
    again = run(*command)
    assert (again.code, len(again.lines)) == (5, 1)
    assert "mine.safetensors" in again.lines[0]
    misnamed = run(*("mine.bin" if word == "mine.safetensors" else word for word in command))
    assert (misnamed.code, len(misnamed.lines)) == (2, 1)
    assert "named *.safetensors" in misnamed.lines[0]
    nothing = run("train", "features", "--data", tmp_path / "none", "-o", "other.safetensors")
    assert nothing.code != 0
    assert "none" in nothing.lines[0]
    assert not (tmp_path / "other.safetensors").exists()
