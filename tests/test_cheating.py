"""`irnscale evaluate metrics`: pictures that scores take for good."""

from __future__ import annotations

import json

import pytest
import torch
from commandline import Run, runner
from conftest import synthetic_photo
from PIL import Image

from irnscale.errors import InputError
from irnscale.evaluation.cheating import SAME_LUMA, gray, luma_cheats, of_one_size, other_colours, small_cheats
from irnscale.images.bicubic import bicubic_down
from irnscale.metrics.fidelity import luma


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    return runner(capfdbinary, monkeypatch)


def photographs(number: int = 3, side: int = 192) -> list[torch.Tensor]:
    """As tensors."""
    arrays = [synthetic_photo(side, side, seed) for seed in range(number)]
    return [torch.from_numpy(a).permute(2, 0, 1)[None].float() / 255 for a in arrays]


def test_equal_luma_to_the_last_digit():
    assert 65481 * SAME_LUMA[0] + 128553 * SAME_LUMA[1] + 24966 * SAME_LUMA[2] == 0
    x = torch.randint(0, 256, (1, 3, 20, 30)).double()
    made = other_colours(x)
    assert made.min() >= 0
    assert made.max() <= 255
    assert torch.equal(made, made.round())
    assert (luma(made) - luma(x)).abs().max() < 1e-9
    assert (made - x).abs().mean() > 15
    # No pixel could go one step farther the same way.
    step = torch.tensor(SAME_LUMA).view(1, 3, 1, 1)
    for sign in (1, -1):
        farther = made + sign * step
        if ((made - x) * sign * step >= 0).all():
            assert ((farther < 0) | (farther > 255)).any(dim=1).all()
    assert (luma(gray(x)) - luma(x)).abs().max() <= 0.5


def test_luma_scores_are_cheated():
    colours, without = luma_cheats(photographs())
    assert colours.scores["psnr_y"] >= 100
    assert colours.scores["ssim_y"] == pytest.approx(1, abs=1e-9)
    assert colours.scores["psnr_rgb"] < 20
    assert without.scores["psnr_y"] > 50
    assert without.scores["psnr_rgb"] < 30


def test_scores_without_a_reference_are_cheated():
    own = photographs()
    rows = {c.name: c.scores for c in small_cheats(own, 2, {"mine": lambda x: bicubic_down(x, 2)})}
    assert rows["mine"] == rows["bicubic"]
    assert rows["bicubic"]["lr_psnr_y"] == 100
    assert rows["another photograph"]["lr_psnr_y"] < 30
    assert rows["another photograph"]["niqe_house"] <= rows["bicubic"]["niqe_house"] * 1.2
    with pytest.raises(InputError, match="at least 96 pixels"):
        small_cheats(own, 4)


def test_photographs_are_cut_to_one_size(tmp_path):
    for k, size in enumerate(((30, 22), (25, 41))):
        Image.fromarray(synthetic_photo(*size, k)).save(tmp_path / f"{k}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    said = []
    cut = of_one_size(tmp_path, None, 4, said.append)
    assert [tuple(x.shape) for x in cut] == [(1, 3, 24, 20)] * 2
    assert len(said) == 1


def test_on_the_command_line(run, tmp_path):
    for k in range(2):
        Image.fromarray(synthetic_photo(200, 196, k)).save(tmp_path / f"{k}.png")
    result = run("evaluate", "metrics", "--data", tmp_path, "-m", "irn-x2")
    assert result.code == 0, result.lines
    assert "2 photographs; the small ones x2" in result.text
    assert "irn-x2" in result.text
    rows = [json.loads(line) for line in run("evaluate", "metrics", "--data", tmp_path, "--json").text.splitlines()]
    assert [row["cheats"] for row in rows] == ["luma"] * 2 + ["no reference"] * 3
    assert run("evaluate", "metrics", "--data", tmp_path, "-m", "irn-x2", "-s", "4").code == 2
    assert run("evaluate", "metrics", "--data", tmp_path, "-s", "3").code == 1
