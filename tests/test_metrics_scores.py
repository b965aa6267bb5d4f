"""Scores that see what PSNR does not: each against its oracle, and in the direction that it must go."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources

import numpy as np
import pytest
import torch
from damaged import WORSE, astronaut, noisy, tensor
from sklearn.svm import SVR
from torch import nn

from irnscale.errors import InputError, UsageError
from irnscale.metrics import brisque, lpips, luma, niqe, psnr
from irnscale.metrics.piqe import piqe
from irnscale.metrics.scores import NAMES, Files, Seen, chosen, diversity
from irnscale.metrics.statistics import fitted, normalised

# by brisque 0.2.0 (features and score; OpenCV 5.0) and pypiqe 1.2 (of the gray picture), once
ORACLES = {
    "plain": (10.794863, 33.759387),
    "noisy": (38.430808, 42.886483),
    "blocky": (15.841279, 39.690669),
    "odd": (11.900364, 33.317954),
}
ODD_FEATURES = [
    *(1.46103, 0.20003, 0.57785, 0.01165, 0.05052, 0.05984, 0.57058, 0.01485, 0.05158, 0.06378, 0.5819, -0.02167),
    *(0.06528, 0.04783, 0.59198, -0.0271, 0.06627, 0.04484, 1.61713, 0.23509, 0.58214, 0.00178, 0.08177, 0.0835),
    *(0.588, 0.01463, 0.07835, 0.0928, 0.60209, -0.024, 0.09075, 0.06817, 0.60724, -0.03791, 0.09787, 0.06232),
]


def picture(kind: str) -> np.ndarray:
    a = astronaut()
    kinds = {"plain": a, "odd": a[5:508, 3:504], "blocky": a[::2, ::2].repeat(2, 0).repeat(2, 1)}
    return noisy(15) if kind == "noisy" else kinds[kind]


@pytest.mark.parametrize("kind", ORACLES)
def test_piqe_is_its_oracles(kind):
    assert piqe(picture(kind)) == pytest.approx(ORACLES[kind][1], abs=1e-5)


def test_brisque_has_its_oracles_features():
    assert brisque.features(picture("odd")) == pytest.approx(np.array(ODD_FEATURES), abs=2e-5)


@pytest.mark.parametrize("kind", ORACLES)
def test_brisque_is_its_oracles(kind):
    try:
        regression = brisque.installed()
    except UsageError:
        pytest.skip("brisque is not installed")
    assert regression.score(picture(kind)) == pytest.approx(ORACLES[kind][0], abs=2e-3)


def test_a_regression_reads_as_scikit_learn_means_it():
    """libsvm's text of a machine that scikit-learn, which wraps libsvm, has trained."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 36)), rng.normal(size=60)
    machine = SVR(gamma=0.05, C=10).fit(x, y)
    rho = float(-machine.intercept_[0])
    head = f"svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\nrho {rho!r}\nSV\n"
    rows = zip(machine.dual_coef_[0], machine.support_vectors_, strict=True)
    lines = [f"{float(w)!r} " + " ".join(f"{k + 1}:{float(v)!r}" for k, v in enumerate(vector)) for w, vector in rows]
    regression = brisque.parsed(head + "\n".join(lines) + "\n")
    wanted = machine.predict(x[:5])
    likeness = np.exp(-regression.gamma * ((regression.vectors[None] - x[:5, None]) ** 2).sum(axis=2))
    assert likeness @ regression.weights - regression.rho == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(ValueError, match="Gaussian"):
        brisque.parsed(head.replace("rbf", "linear") + "\n".join(lines))


def test_a_generalised_gaussian_is_found_again():
    """Shape 2 and 1 are the normal and the Laplace distribution; one side may be wider than the other."""
    rng = np.random.default_rng(1)
    normal, laplace = rng.normal(0, 2, 400_000), rng.laplace(0, 1, 400_000)
    lopsided = np.where(normal < 0, normal / 2, normal)
    sides = np.abs(normal[: len(normal) // 3]), -np.abs(normal[len(normal) // 3 :]) / 2
    found = fitted(np.stack([normal, laplace, lopsided, np.concatenate(sides)]))
    assert found.shape[:2] == pytest.approx([2, 1], abs=0.03)
    assert found.left == pytest.approx([2, math.sqrt(2), 1, 1], abs=0.03)
    assert found.right == pytest.approx([2, math.sqrt(2), 2, 2], abs=0.03)
    assert found.mean[:2] == pytest.approx([0, 0], abs=0.01)
    assert found.mean[3] > 0, "wider above than below"
    assert np.isnan(fitted(np.ones((1, 9))).left).all()


def test_luminance_is_normalised_as_by_hand():
    rng = np.random.default_rng(2)
    gray = rng.uniform(0, 255, (9, 11))
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()
    for border in ("edge", "constant"):
        padded = np.pad(gray, 3, mode=border)
        part = padded[2 : 2 + 7, 6 : 6 + 7]  # around (2, 6)
        mean = (part * window).sum()
        deviation = math.sqrt(abs((part * part * window).sum() - mean**2))
        found = normalised(gray, border=border)
        assert found.deviation[2, 6] == pytest.approx(deviation, abs=1e-9)
        assert found.values[2, 6] == pytest.approx((gray[2, 6] - mean) / (deviation + 1), abs=1e-9)


def test_niqe_is_the_distance_of_its_definition():
    """Features of one patch by hand, and the distance of three patches by numpy."""
    part = astronaut()[:96, 100:196]
    row = niqe.features(part)
    assert row.shape == (1, 36)
    gray = (part @ np.array([0.2989, 0.5870, 0.1140])).round()
    values = normalised(gray).values
    pairs = [np.roll(values, shift, (0, 1)) * values for shift in ((0, 1), (1, 0), (1, 1), (1, -1))]
    for k, pair in enumerate(pairs):
        below, above = pair[pair < 0], pair[pair > 0]
        shape = row[0, 2 + 4 * k]
        width = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
        left, right = (width * math.sqrt((side**2).mean()) for side in (below, above))
        mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
        assert row[0, 3 + 4 * k : 6 + 4 * k] == pytest.approx([mean, left, right], rel=1e-9)
        ratio = left / right
        wanted = np.abs(pair).mean() ** 2 / (pair**2).mean() * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
        reached = math.gamma(2 / shape) ** 2 / (math.gamma(1 / shape) * math.gamma(3 / shape))
        assert reached == pytest.approx(wanted, abs=1e-5)
    three = niqe.features(astronaut()[:96, :288])
    assert len(three) == 3
    house = niqe.house()
    spread = (house.covariance + np.cov(three.T)) / 2
    off = three.mean(axis=0) - house.mean
    wanted = math.sqrt(off @ np.linalg.solve(spread, off))
    assert house.distance(astronaut()[:96, :288]) == pytest.approx(wanted, rel=1e-6)


def test_a_model_of_niqe_is_fitted_kept_and_read(tmp_path):
    rng = np.random.default_rng(0)
    several = [astronaut()[10 * k :, 7 * k :] for k in range(6)] + [rng.uniform(0, 255, (300, 500, 3)).round()]
    model = niqe.fit(several)
    rows = np.concatenate([niqe.features(p, sharp=niqe.SHARPNESS) for p in several])
    assert len(rows) < sum(len(niqe.features(p)) for p in several), "blurred patches are left out"
    assert model.mean == pytest.approx(rows.mean(axis=0))
    (tmp_path / "m.json").write_text(model.to_json())
    np.savez(tmp_path / "m.npz", mu_pris_param=model.mean[None], cov_pris_param=model.covariance)
    from scipy.io import savemat

    savemat(tmp_path / "m.mat", {"mu_prisparam": model.mean, "cov_prisparam": model.covariance})
    distances = [niqe.from_file(tmp_path / f"m.{kind}").distance(noisy(20)) for kind in ("json", "npz", "mat")]
    assert distances == pytest.approx([model.distance(noisy(20))] * 3, rel=1e-3)
    with pytest.raises(UsageError, match="too few"):
        niqe.fit([astronaut()[:100, :100]])


@pytest.mark.parametrize("name", ["a.json", "a.mat", "a.npz", "none.mat", "b.json", "c.json", "empty.mat", "empty.npz"])
def test_what_is_no_model_of_niqe_is_named(tmp_path, name):
    (tmp_path / "a.json").write_text('{"mean": [1, 2]}')
    (tmp_path / "b.json").write_text(json.dumps({"mean": [0.0] * 36, "covariance": [0.0] * 7}))
    (tmp_path / "c.json").write_text("[" * 200_000)
    (tmp_path / "a.mat").write_bytes(b"MATLAB" * 40)
    for kind in ("mat", "npz"):
        (tmp_path / f"empty.{kind}").touch()
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(InputError, match=name):
        niqe.from_file(tmp_path / name)


@pytest.mark.parametrize("damage", WORSE)
@pytest.mark.parametrize("score", [niqe.house().distance, piqe], ids=["niqe-house", "piqe"])
def test_more_damage_reads_worse(score, damage):
    values = [score(WORSE[damage](k)) for k in range(4)]
    assert values == sorted(values)
    assert values[-1] > 1.2 * values[0]


@cache
def alexnet() -> nn.Sequential:
    """Of torchvision's layout, with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


@pytest.fixture(scope="module", params=["pth", "safetensors"])
def backbone(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("alexnet") / f"alexnet.{request.param}"
    state = {f"features.{key}": value for key, value in alexnet().state_dict().items()}
    state["classifier.1.weight"] = torch.zeros(2, 2)
    if request.param == "pth":
        torch.save(state, path)
    else:
        import safetensors.torch

        safetensors.torch.save_file(state, path)
    return path


def test_lpips_is_its_definition(backbone):
    net = lpips.read_backbone(backbone)
    a, b = tensor(astronaut()[:128, :160]), tensor(noisy(12)[:128, :160])
    total = 0.0
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((2 * p - 1) - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for p in (a, b))
    import safetensors.torch

    data = (resources.files("irnscale") / "assets" / "lpips.safetensors").read_bytes()
    stored = safetensors.torch.load(data)
    heads = (stored[f"head.{k}"] for k in range(5))
    with torch.no_grad():
        for layer in alexnet():
            x, y = layer(x), layer(y)
            if isinstance(layer, nn.ReLU):
                head = next(heads)
                units = (nn.functional.normalize(v, dim=1, eps=0) for v in (x + 1e-30, y + 1e-30))
                one, other = units
                total += float(((one - other) ** 2).mul(head.view(-1, 1, 1)).sum(1).mean())
    assert lpips.distance(net, a, b) == pytest.approx(total, rel=1e-4)
    assert lpips.distance(net, b, a) == pytest.approx(lpips.distance(net, a, b), rel=1e-6)
    assert lpips.distance(net, a, a) == 0
    farther = [lpips.distance(net, a, tensor(noisy(deviation)[:128, :160])) for deviation in (3, 12, 40)]
    assert farther == sorted(farther)
    assert math.isnan(lpips.distance(net, a[..., :62], b[..., :62]))


def test_what_is_no_alexnet_is_named(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "c.safetensors").write_bytes(b"\0" * 9)
    for name in ("a.pth", "b.pth", "c.safetensors", "none.pth"):
        with pytest.raises(InputError, match=name):
            lpips.read_backbone(tmp_path / name)


def test_lr_psnr_asks_whether_small_and_large_belong_together():
    (score,) = chosen(["lr-psnr"]).more
    original = tensor(astronaut()[:126, :130])
    padded = nn.functional.pad(original, (0, 2, 0, 2), mode="reflect")
    from irnscale.images.bicubic import bicubic_down

    small = (bicubic_down(padded, 4).clamp(0, 1) * 255).round() / 255
    belongs = Seen(original, small, original, 4)
    assert score.of(belongs) > 52, "but for rounding and clipping the same"
    assert score.of(Seen(original, small.flip(3), original, 4)) < 20
    assert score.of(Seen(original, torch.zeros_like(small), torch.zeros_like(original), 4)) == 100


def test_diversity_is_a_deviation_in_grey_levels():
    middle = torch.full((1, 3, 8, 8), 100 / 255)
    assert diversity([middle, middle]) == 0
    assert diversity([middle - 3 / 255, middle, middle + 3 / 255]) == pytest.approx(3)
    assert math.isnan(diversity([middle]))


def test_scores_can_be_cheated():
    """Section 4.2.3 of the dissertation: PSNR of luma sees no colour, and no reference sees no picture."""
    rgb = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64).view(1, 3, 1, 1).repeat(1, 1, 16, 16)
    other = rgb.clone()
    other[:, 0] += 24.966 * 0.007
    other[:, 2] -= 65.481 * 0.007
    assert torch.allclose(luma(rgb * 255), luma(other * 255))
    assert psnr(rgb, other, y_channel=True) > 50
    assert psnr(rgb, other, y_channel=False) < 15
    flipped = astronaut()[:, ::-1]
    assert piqe(flipped) == pytest.approx(piqe(astronaut()), rel=0.05), "another picture, and as good"


def test_flat_and_tiny_pictures_have_no_score_or_the_worst():
    flat = np.full((200, 200, 3), 128.0)
    assert piqe(flat) == 100
    assert math.isnan(niqe.house().distance(flat))
    assert math.isnan(niqe.house().distance(astronaut()[:95, :200]))
    assert np.isnan(brisque.features(flat)).any()
    assert np.isnan(brisque.features(astronaut()[:3, :9])).all()
    assert 0 < piqe(astronaut()[:1, :1]) <= 100


@pytest.mark.parametrize(
    ("names", "message"),
    [(["psnr", "nique"], "'nique'"), ([], "no score"), (["lpips"], "--lpips"), (["niqe"], "--niqe")],
)
def test_what_cannot_be_measured_is_said_at_once(names, message):
    with pytest.raises(UsageError) as caught:
        chosen(names)
    assert message in caught.value.line


def test_every_score_of_the_list_can_be_had(backbone, tmp_path, monkeypatch):
    (tmp_path / "m.json").write_text(niqe.house().to_json())
    flat = brisque.Regression(np.zeros((1, 36)), np.ones(1), 0.05, 0.0)
    monkeypatch.setattr(brisque, "installed", lambda: flat)
    found = chosen(NAMES, Files(tmp_path / "m.json", backbone))
    assert found.protocol == ("psnr", "ssim")
    assert [score.name for score in found.more] == [name for name in NAMES if name not in ("psnr", "ssim")]
    seen = Seen(tensor(astronaut()), tensor(astronaut()[::4, ::4]), tensor(noisy(3)), 4)
    for score in found.more:
        if score.of is not None:
            assert math.isfinite(score.of(seen)), score.name
    assert len({score.identity for score in found.more}) == len(found.more) - 2, "the two models of NIQE are the same"
