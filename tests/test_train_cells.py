"""`lr_cells`: the small picture on a coarser grid, drawn for each crop."""

from __future__ import annotations

import pytest
import torch
from training import TINY, batch

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.train.cells import quantize_cells
from irnscale.train.objective import objective_of


@pytest.mark.parametrize("m", [1, 2, 4, 8, 256])
def test_the_middles_of_cells(m):
    """Every level of 8 bits goes to the middle of its cell, of which none is cut at either end."""
    levels = torch.arange(256)
    x = (levels.double() / 255).view(1, 1, 1, 256)
    cells = quantize_cells(x, torch.tensor([m])) * 255
    torch.testing.assert_close(cells.flatten(), (levels // m * m).double() + (m - 1) / 2)
    assert (cells.flatten() - levels).abs().max() <= (m - 1) / 2 + 1e-9
    assert len(cells.unique()) == 256 // m


def test_cells_of_one_level_are_eight_bits():
    x = torch.linspace(-0.3, 1.3, 4001).view(1, 1, 1, -1)
    torch.testing.assert_close(quantize_cells(x, torch.tensor([1])), quantize(x), rtol=0, atol=1e-6)


def test_the_gradient_is_the_identity():
    x = torch.linspace(-0.3, 1.3, 30).view(2, 1, 3, 5).requires_grad_()
    weights = torch.randn_like(x)
    (quantize_cells(x, torch.tensor([2, 8])) * weights).sum().backward()
    assert torch.equal(x.grad, weights)


def test_every_crop_has_its_own_cells():
    x = torch.rand(3, 3, 4, 4)
    together = quantize_cells(x, torch.tensor([1, 2, 16]))
    for index, m in enumerate((1, 2, 16)):
        assert torch.equal(together[index : index + 1], quantize_cells(x[index : index + 1], torch.tensor([m])))
    assert together.dtype == x.dtype


def test_cells_are_drawn_by_seed_and_step():
    recipe = TINY.but(lr_cells=[1, 2])
    steps = torch.stack([objective_of(recipe).draw(16, step=step)["cells"] for step in range(64)])
    assert set(steps.unique().tolist()) == {1, 2}
    assert 0.44 < (steps == 2).double().mean() < 0.56
    assert len(steps.unique(dim=0)) > 60
    assert torch.equal(objective_of(recipe).draw(16, step=3)["cells"], steps[3])
    assert not torch.equal(objective_of(recipe.but(seed=11)).draw(16, step=3)["cells"], steps[3])
    objective = objective_of(TINY.but(lr_cells=[1, 1, 2]))
    thrice = torch.cat([objective.draw(16, step=step)["cells"] for step in range(64)])
    assert 0.27 < (thrice == 2).double().mean() < 0.40, "what is named twice is drawn twice as often"


def test_the_default_is_eight_bits_and_draws_nothing(photos):
    assert objective_of(TINY).draw(4, step=0) == {}
    sampled, both = (TINY.but(zerosample=False, lr_cells=cells) for cells in ([1], [1, 2]))
    drawn = [objective_of(recipe).draw(4, step=5)["z"] for recipe in (sampled, both)]
    assert torch.equal(*drawn), "what else is drawn stays the same"
    hr, reference = batch(photos)
    objective = objective_of(TINY)
    lr = objective.downscale(hr)
    assert torch.equal(objective.stored(lr, {}), quantize(lr))
    coarse = objective.stored(lr, {"cells": torch.tensor([1, 4])})
    torch.testing.assert_close(coarse[:1], quantize(lr)[:1], rtol=0, atol=1e-6)
    assert 0 < (coarse[1] - quantize(lr)[1]).abs().max() <= 1.5 / 255 + 1e-6
    plain = objective(hr, reference, {})
    given = objective(hr, reference, {"cells": torch.tensor([1, 4])})
    assert plain["guide"].equal(given["guide"]), "the guidance is of what the network makes, not of what is stored"
    assert plain["recon"][1] != given["recon"][1]


@pytest.mark.parametrize("change", [{"compression_mode": True}, {"sr_mode": True}, {"assistant_of": "irn-x2"}])
def test_cells_where_they_mean_nothing(change):
    with pytest.raises(UsageError, match="lr_cells"):
        TINY.but(lr_cells=[1, 2], **change)
