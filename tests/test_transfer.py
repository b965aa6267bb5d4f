"""Editing in the latent space of SRFlow: tiles, normalisation, boxes, what stays as it is, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Run, runner
from conftest import synthetic_photo
from PIL import Image
from test_flow_layers import randomised

import irnscale
from irnscale.engine.latents import LatentSpace
from irnscale.engine.normalisation import NORMALISATIONS, cells, normalised
from irnscale.engine.rescaler import Rescaler
from irnscale.engine.transfer import Box, Edit, Transfer
from irnscale.errors import InputError, ModelError, UsageError
from irnscale.jobs.transfer import chosen_model
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.srflow import SRFlow
from irnscale.zoo import find, store
from irnscale.zoo.save import save_model

SMALL = SRFlowConfig(
    rrdb_blocks=1, rrdb_growth=4, taps=(0,), flow_steps=1, flow_hidden=8, adapter=6, flow_scale="squish", head=False
)


@pytest.fixture
def network() -> SRFlow:
    torch.manual_seed(1)
    net = SRFlow(SMALL)
    randomised(net.flow, gain=0.1)
    return net


@pytest.fixture
def engine(network, monkeypatch, tmp_path) -> Rescaler:
    """A narrow SRFlow, called "narrow", in a folder of models of its own."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    save_model(tmp_path / "models", "narrow", network.config, network.float().state_dict())
    return Rescaler([find("narrow")], device="cpu")


@pytest.fixture
def run(engine, capfdbinary, monkeypatch, tmp_path) -> Run:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Image.fromarray(synthetic_photo(48, 56, seed=1)).save("source.png")
    Image.fromarray(synthetic_photo(67, 83, seed=2)).save("target.png")
    every = store.installed  # the shipped one with latents would be taken first, and is slow
    monkeypatch.setattr(store, "installed", lambda *given: [m for m in every(*given) if not m.shipped or not m.samples])
    return runner(capfdbinary, monkeypatch)


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def fail(error: BaseException, where: str) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(where)


@pytest.mark.parametrize("tile", [8, 13, 40])
def test_tiles_change_nothing(network, tile):
    net = network.double()
    lr = torch.rand(1, 3, 70, 6, dtype=torch.float64)
    hr = torch.rand(1, 3, 280, 24, dtype=torch.float64)
    assert net.support <= 30, "so that several tiles are less than the whole"
    told = []
    space = LatentSpace(net, tile, fail, lambda done, total: told.append((done, total)))
    space.expect(lr, lr)
    latents = space.encode(hr, lr)
    with torch.no_grad():
        whole = net.encode(hr, net.encoded(lr))
    for part, expected in zip(latents, whole, strict=True):
        assert (part - expected).abs().max() < 1e-10
    assert (space.decode(latents, lr) - hr).abs().max() < 1e-8
    assert told[-1] == (2 * 70 * 6, 2 * 70 * 6)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def collections(z: torch.Tensor, how: str) -> torch.Tensor:
    return z.flatten(1).T if how == "local" else z.flatten(1)


@pytest.mark.parametrize("how", ["local", "spatial"])
def test_normalised_latents_have_the_moments_of_the_noise(how):
    z = [5 + 3 * torch.randn(1, 6, 9, 11), torch.rand(1, 12, 4, 5)]
    noise = [0.8 * torch.randn_like(x) for x in z]
    everywhere = [torch.ones(1, 1, *x.shape[2:], dtype=torch.bool) for x in z]
    for made, like in zip(normalised(z, everywhere, noise, how), noise, strict=True):
        rows, wanted = collections(made[0], how), collections(like[0], how)
        assert torch.allclose(rows.mean(1), wanted.mean(1), atol=1e-5)
        assert torch.allclose(rows.std(1), wanted.std(1), atol=1e-5)


def test_the_global_normalisation_is_one_of_all_latents():
    z = [5 + 3 * torch.randn(1, 6, 9, 11), torch.rand(1, 12, 4, 5)]
    noise = [0.5 * torch.randn_like(x) for x in z]
    masks = [torch.ones(1, 1, *x.shape[2:], dtype=torch.bool) for x in z]
    made = torch.cat([x.flatten() for x in normalised(z, masks, noise, "global")])
    like = torch.cat([x.flatten() for x in noise])
    assert math.isclose(made.mean(), like.mean(), abs_tol=1e-5)
    assert math.isclose(made.std(), like.std(), rel_tol=1e-5)
    before = torch.cat([x.flatten() for x in z])
    assert torch.corrcoef(torch.stack((made, before)))[0, 1] > 1 - 1e-5, "a shift and a scale of all alike"


def test_moments_are_distributed_as_the_paper_says():
    """m ~ N(0, t^2 / N) and (N - 1) s^2 / t^2 chi-squared of N - 1 degrees, that is s^2 ~ t^2 Gamma((N-1)/2, 2/(N-1)):
    Kolmogorov and Smirnov's distance below its critical value at one in a thousand.
    """
    t, n, count = 0.7, 6, 4000
    z = [torch.rand(1, n, 50, count // 50)]
    noise = [t * torch.randn_like(z[0])]
    (made,) = normalised(z, [torch.ones(1, 1, 50, count // 50, dtype=torch.bool)], noise, "local")
    values = made[0].flatten(1).double()
    mean = torch.special.ndtr(values.mean(0) * math.sqrt(n) / t)
    spread = torch.special.gammainc(torch.tensor((n - 1) / 2.0), (n - 1) / 2 * values.var(0).float() / t**2)
    for found in (mean, spread):
        steps = torch.arange(1, count + 1) / count
        assert (found.sort().values - steps).abs().max() < 1.95 / math.sqrt(count)


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_what_is_not_under_the_mask_stays(how):
    z = [torch.randn(1, 6, 8, 12), torch.randn(1, 12, 4, 6)]
    mask = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    mask[..., 5, 7] = True
    masks = cells(mask, z)
    assert masks[0].nonzero()[:, 2:].unique(dim=0).tolist() == [[y, x] for y in (1, 2, 3) for x in (2, 3, 4)]
    assert masks[1].nonzero()[:, 2:].tolist() == [[y, x] for y in (0, 1, 2) for x in (0, 1, 2)]
    noise = [torch.randn_like(x) for x in z]
    for before, after, places in zip(z, normalised(z, masks, noise, how), masks, strict=True):
        assert torch.equal(before.masked_select(~places), after.masked_select(~places))
        same = torch.equal(before.masked_select(places), after.masked_select(places))
        assert same == (how == "none")


def test_a_constant_becomes_the_mean_of_the_noise():
    z, noise = [torch.full((1, 4, 2, 3), 7.0)], [torch.randn(1, 4, 2, 3)]
    (made,) = normalised(z, [torch.ones(1, 1, 2, 3, dtype=torch.bool)], noise, "spatial")
    assert torch.allclose(made, noise[0].mean((2, 3), keepdim=True).expand_as(made), atol=1e-6)
    (zero,) = normalised(z, [torch.ones(1, 1, 2, 3, dtype=torch.bool)], [torch.zeros(1, 4, 2, 3)], "local")
    assert not zero.any(), "temperature 0 is the mode"


@pytest.mark.parametrize("size", [(64, 72), (37, 29), (9, 61), (1, 1)])
@pytest.mark.parametrize(("mode", "depth"), [("content", 8), ("style", 8), ("restore", 16)])
def test_a_picture_set_into_itself_is_itself(engine, size, mode, depth):
    picture = synthetic_photo(*size)
    box = Box(0, 0, size[1], size[0])
    made = Transfer(engine).edit(picture, Edit(mode, "none"), source=picture, box=box, depth=depth)
    assert made.shape == picture.shape
    if depth == 8:
        assert np.array_equal(made, picture)
    else:
        assert np.abs(made.astype(int) - picture.astype(int) * 257).max() <= 2


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["content", "style", "restore"])
def test_a_picture_set_into_itself_on_cuda(engine, mode):
    picture = synthetic_photo(120, 90)
    on_cuda = Rescaler(engine.models, device="cuda")
    before = torch.backends.cudnn.allow_tf32
    assert np.array_equal(Transfer(on_cuda).edit(picture, Edit(mode, "none"), source=picture), picture)
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("mode", ["content", "style", "restore"])
def test_only_the_surroundings_of_the_box_change(engine, mode):
    source, target = synthetic_photo(60, 60, seed=3), synthetic_photo(420, 90, seed=4)
    how = "spatial" if mode == "style" else None
    made = Transfer(engine).edit(
        target, Edit(mode, how), source=target if mode == "restore" else source, box=Box(8, 8, 16, 16)
    )
    assert not np.array_equal(made[8:24, 8:24], target[8:24, 8:24])
    reach = engine.enlarging.net.support * 4
    assert np.array_equal(made[24 + 8 + reach :], target[24 + 8 + reach :])


def test_a_box_is_the_same_in_any_tiles(engine):
    source, target = synthetic_photo(60, 60, seed=3), synthetic_photo(90, 170, seed=4)
    tiled = Rescaler(engine.models, device="cpu", tile=16)
    options = {"source": source, "box": Box(5, 7, 33, 41), "at": (100, 20), "depth": 16}
    whole = Transfer(engine).edit(target, Edit("content"), **options)
    again = Transfer(tiled).edit(target, Edit("content"), **options)
    assert np.abs(whole.astype(int) - again).max() <= 2


def test_the_small_picture_of_the_target_is_what_the_result_was_given(engine, monkeypatch):
    """Style: the latents are the source's where they were put, and the condition is the target's."""
    source, target = synthetic_photo(64, 64, seed=3), synthetic_photo(64, 64, seed=4)
    given, plain = [], LatentSpace.decode

    def decode(self, latents, lr):
        given.append(([z.clone() for z in latents], lr))
        return plain(self, latents, lr)

    monkeypatch.setattr(LatentSpace, "decode", decode)
    transfer = Transfer(engine)
    transfer.edit(target, Edit("style"), source=source, box=Box(17, 14, 15, 17), at=(30, 31))
    ((latents, lr),) = given
    space = LatentSpace(transfer.net, 64, fail)
    theirs, own = (space.encode(*transfer._pair(picture, None, Box(0, 0, 64, 64))) for picture in (source, target))
    assert torch.equal(lr, transfer._pair(target, None, Box(0, 0, 64, 64))[1])
    for z, a, b in zip(latents, theirs, own, strict=True):
        cell = 64 // z.shape[2]
        box, place = (slice(16 // cell, 32 // cell),) * 2, (slice(32 // cell, 48 // cell),) * 2
        assert torch.equal(z[(..., *place)], a[(..., *box)])
        outside = torch.ones(1, 1, *z.shape[2:], dtype=torch.bool)
        outside[(..., *place)] = False
        assert torch.equal(z.masked_select(outside), b.masked_select(outside))


def test_a_region_has_the_small_picture_of_the_whole(engine):
    transfer, picture = Transfer(engine), synthetic_photo(150, 203)
    hr, lr = transfer._pair(picture, None, Box(0, 0, 208, 152))
    for region in (Box(0, 0, 64, 64), Box(64, 48, 80, 24), Box(160, 104, 48, 48)):
        part, small = transfer._pair(picture, None, region)
        assert torch.equal(part, hr[(..., *region.slices)])
        over = Box(region.x // 4, region.y // 4, region.width // 4, region.height // 4)
        assert (small - lr[(..., *over.slices)]).abs().max() <= 1.01 / 255  # rounding at a boundary
        assert (small == lr[(..., *over.slices)]).float().mean() > 0.999


def test_seeds_and_temperatures(engine):
    source, target = synthetic_photo(32, 32, seed=3), synthetic_photo(40, 40, seed=4)
    transfer = Transfer(engine)
    made = [
        transfer.edit(target, Edit("content", temperature=t, seed=seed), source=source).astype(int)
        for t, seed in ((0.8, 1), (0.8, 1), (0.8, 2), (0.0, 1), (0.0, 2))
    ]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert np.array_equal(made[3], made[4])


def test_transparent_parts_of_the_source_cover_nothing(engine):
    source, target = synthetic_photo(32, 32, seed=3), synthetic_photo(40, 40, seed=4)
    transfer = Transfer(engine)
    nothing = transfer.edit(target, Edit("content"), source=source, cover=np.zeros((32, 32), np.float32))
    assert np.array_equal(nothing, target)
    all_of_it = transfer.edit(target, Edit("content"), source=source, cover=np.ones((32, 32), np.float32))
    assert np.array_equal(all_of_it, transfer.edit(target, Edit("content"), source=source))


@pytest.mark.parametrize(
    ("box", "at"),
    [
        (Box(20, 0, 13, 8), None),
        (Box(0, 25, 8, 8), None),
        (Box(0, 0, 0, 8), None),
        (Box(0, 0, 8, 8), (33, 0)),
        (Box(0, 0, 8, 8), (0, 33)),
        (None, (40, 0)),
    ],
)
@pytest.mark.parametrize("mode", ["content", "style"])
def test_boxes_off_the_picture(engine, box, at, mode):
    source, target = synthetic_photo(32, 32, seed=3), synthetic_photo(40, 40, seed=4)
    with pytest.raises(UsageError, match="is not within"):
        Transfer(engine).edit(target, Edit(mode), source=source, box=box, at=at)


def test_a_network_without_latents():
    with pytest.raises(InputError, match=r"sr-x4 has no latents.*SRFlow"):
        Transfer(Rescaler([find("sr-x4")], device="cpu"))


def test_a_result_that_is_not_finite(engine, network):
    for split in engine.enlarging.net.flow.splits:
        split.gauss.bias.fill_(1e30)
    with pytest.raises(InputError, match="is not finite"):
        Transfer(engine).edit(synthetic_photo(16, 16), Edit("restore"))


# --- the command


def test_the_command(run):
    result = run("transfer", "source.png", "target.png", "--box", "4,6,20,16", "--at", "50,40", "--seed", "3", "--json")
    assert result.code == 0, result.lines
    assert json.loads(result.text) == {
        "output": "target_transfer.png",
        "width": 83,
        "height": 67,
        "mode": "content",
        "model": "narrow",
        "digest": find("narrow").card.digest,
        "temperature": 0.8,
        "seed": 3,
    }
    made, target = pixels("target_transfer.png"), pixels("target.png")
    assert made.shape == target.shape
    assert not np.array_equal(made, target)
    assert run("transfer", "source.png", "target.png").code == 5, "it exists"
    written = irnscale.transfer_file(
        "source.png", "target.png", "again.png", box=(4, 6, 20, 16), at=(50, 40), seed=3, device="cpu"
    )
    assert (written.new_size, written.model, written.warnings) == ((83, 67), "narrow", ())
    assert np.array_equal(pixels("again.png"), made)


def test_onto_itself_by_the_command(run):
    for options in (("--normalize", "none"), ("--style",)):
        assert run("transfer", "target.png", "target.png", *options, "-o", "same.png", "--overwrite").code == 0
        assert np.array_equal(pixels("same.png"), pixels("target.png"))


def test_gray_alpha_and_sixteen_bits(run):
    Image.fromarray(synthetic_photo(40, 44)[..., 0]).save("gray.png")
    assert run("transfer", "source.png", "gray.png", "-o", "a.png").code == 0
    with Image.open("a.png") as image:
        assert image.mode == "L"
    alpha = np.tile(np.arange(40, dtype=np.uint8)[:, None] * 6, (1, 44))
    Image.fromarray(np.dstack([synthetic_photo(40, 44), alpha])).save("alpha.png")
    assert run("transfer", "source.png", "alpha.png", "-o", "b.png").code == 0
    assert np.array_equal(pixels("b.png")[..., 3], alpha)
    assert run("transfer", "source.png", "gray.png", "-o", "c.tif", "--depth", "16").code == 0
    with Image.open("c.tif") as image:
        assert image.mode == "I;16"


def test_a_small_target(run, engine):
    Image.fromarray(synthetic_photo(9, 11)).save("small.png")
    assert run("transfer", "source.png", "small.png", "-s", "4", "--normalize", "none", "-o", "a.png").code == 0
    assert pixels("a.png").shape == (36, 44, 3)
    nothing = np.dstack([synthetic_photo(16, 16), np.zeros((16, 16), np.uint8)])
    nothing[0, 0, 3] = 1
    Image.fromarray(nothing).save("clear.png")
    options = ("--temperature", "0.5", "--seed", "4", "--normalize", "none")
    assert run("transfer", "clear.png", "small.png", "-s", "4", *options, "-o", "b.png").code == 0
    drawn = engine.samples(synthetic_photo(9, 11), temperature=0.5, seeds=[4])[0]
    difference = np.abs(pixels("b.png").astype(int) - drawn)
    assert difference[12:].max() <= 1, "it was drawn by the temperature and the seed, and nothing was set into it"


def test_restore_and_stdout(run):
    result = run("transfer", "--restore", "target.png", "-o", "-", "-f", "png")
    assert result.code == 0
    Path("out.png").write_bytes(result.stdout)
    assert pixels("out.png").shape == (67, 83, 3)
    assert run("transfer", "--restore", "target.png", "--box", "8,8,16,16").code == 0
    assert Path("target_restored.png").is_file()


def test_profiles_that_differ_are_told(run):
    with Image.open("source.png") as image:
        from PIL import ImageCms

        image.save("other.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    result = run("transfer", "other.png", "target.png")
    assert result.code == 0
    assert len(result.warnings) == 1
    assert "other.png: has another colour profile than the target" in result.warnings[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("source.png",), 2, "a SOURCE and a TARGET are needed, and 1 are given"),
        (("source.png", "target.png", "--restore"), 2, "--restore takes one picture"),
        (("source.png", "target.png", "--restore", "--style"), 2, "two things"),
        (("source.png", "target.png", "--box", "1,2,3"), 2, "not of the form X,Y,W,H"),
        (("source.png", "target.png", "--box", "1.5,2,3,4"), 2, "not of the form X,Y,W,H"),
        (("source.png", "target.png", "--at", "-1,2"), 2, "not of the form X,Y"),
        (("source.png", "target.png", "--box", "50,0,7,8"), 2, "--box 50,0,7,8: is not within the picture of 56x48"),
        (("source.png", "target.png", "--at", "80,0", "--box", "0,0,8,8"), 2, "is not within the target of 83x67"),
        (("source.png", "target.png", "-s", "2"), 2, "-s 2 contradicts narrow, which is x4"),
        (("target.png", "--restore", "-s", "4"), 2, "has no meaning for restore"),
        (("target.png", "--restore", "--at", "1,1"), 2, "has no meaning for restore"),
        (("source.png", "target.png", "-m", "irn-x4"), 3, "irn-x4: has no latents to transfer"),
        (("source.png", "target.png", "-m", "sr-x4"), 3, "sr-x4: has no latents to transfer"),
        (("source.png", "target.png", "-m", "nothing"), 3, "no model 'nothing' is installed"),
        (
            (
                "source.png",
                "absent.png",
            ),
            1,
            "absent.png",
        ),
        (("source.png", "target.png", "--max-memory", "1M"), 4, "does not fit into --max-memory"),
        (("source.png", "target.png", "-o", "a.xyz"), 2, "cannot write .xyz files"),
        (("source.png", "target.png", "-o", "nowhere/a.png"), 5, "its folder does not exist"),
    ],
)
def test_what_is_refused(run, arguments, code, words):
    result = run("transfer", *arguments)
    assert result.code == code, result.lines
    assert len(result.lines) == 1
    assert words in result.lines[0]
    assert sorted(path.name for path in Path().iterdir()) == ["source.png", "target.png"]


def test_which_model_is_taken(run, network, tmp_path, monkeypatch):
    save_model(tmp_path / "models", "other", network.config, network.state_dict())
    result = run("transfer", "source.png", "target.png")
    assert result.code == 2
    assert "several models with latents: narrow, other (name one with -m)" in result.lines[0]
    assert run("transfer", "source.png", "target.png", "-m", "other").code == 0
    with monkeypatch.context() as patch:
        both = [find("narrow"), dataclasses.replace(find("other"), shipped=True)]
        patch.setattr(store, "installed", lambda *_: both)
        assert chosen_model(None).card.name == "other"
    for path in (tmp_path / "models").iterdir():
        path.unlink()
    result = run("transfer", "source.png", "target.png", "--overwrite")
    assert result.code == 3
    assert "no SRFlow is installed (`irnscale models import` takes" in result.lines[0]


def test_errors_of_the_function(run):
    with pytest.raises(UsageError, match="does not say the format"):
        irnscale.transfer_file("source.png", "target.png", "out")
    with pytest.raises(TypeError, match="unknown option"):
        irnscale.transfer_file("source.png", "target.png", "out.png", colour=1)
    with pytest.raises(ModelError, match="has no latents"):
        irnscale.transfer_file("source.png", "target.png", "out.png", model="irn-x2")
    with pytest.raises(UsageError, match="mode=mix must be one of content, style, restore"):
        irnscale.transfer_file("source.png", "target.png", "out.png", mode="mix")


@pytest.mark.parametrize("temperature", ["nan", "-1", "101"])
def test_the_range_of_temperatures_is_told(run, temperature):
    result = run("transfer", "source.png", "target.png", "--temperature", temperature)
    assert (result.code, len(result.lines)) == (2, 1)
    assert "from 0 to 100" in result.lines[0] or "in the range 0<=x<=100" in result.lines[0]
    with pytest.raises(UsageError, match=r"temperature=.* is no number from 0 to 100"):
        irnscale.transfer_file("source.png", "target.png", "out.png", temperature=float(temperature))


def test_a_temperature_that_is_too_high_is_named(run, monkeypatch):
    monkeypatch.setattr("irnscale.engine.transfer.are_finite", lambda arrays: False)
    for options, named in ((["--temperature", "70"], True), (["--normalize", "none"], False)):
        result = run("transfer", "source.png", "target.png", "--box", "0,0,16,16", *options)
        assert (result.code, len(result.lines)) == (1, 1)
        assert ("at --temperature 70, nothing is written (use a lower --temperature" in result.lines[0]) == named
        assert "the model is damaged or the input extreme" in result.lines[0]
    assert not Path("target_transfer.png").exists()


@pytest.mark.parametrize("name", ["source.png", "target.png", "link.png"])
def test_no_input_is_ever_changed(run, name):
    Path("link.png").symlink_to("source.png")
    before = Path(name).read_bytes()
    result = run("transfer", "source.png", "target.png", "-o", name, "--overwrite")
    assert result.code == 5
    assert "would replace the input" in result.lines[0]
    with pytest.raises(irnscale.IrnscaleError, match="would replace the input"):
        irnscale.transfer_file("source.png", "target.png", name, overwrite=True)
    assert Path(name).read_bytes() == before


def test_a_slash_says_folder(run):
    assert run("transfer", "source.png", "target.png", "--box", "0,0,16,16", "-o", "new/").code == 0
    assert [path.name for path in Path("new").iterdir()] == ["target_transfer.png"]


def test_warnings_name_the_picture_that_they_are_about(run):
    with Image.open("source.png") as image:
        image.convert("CMYK").save("cmyk.jpg")
    for pair in (("cmyk.jpg", "target.png"), ("source.png", "cmyk.jpg")):
        result = run("transfer", *pair, "--box", "0,0,16,16", "-o", f"{pair[0]}.png")
        assert result.code == 0
        assert result.lines == [
            "irnscale: warning: cmyk.jpg: CMYK without a usable colour profile: colours are approximate"
        ]


@pytest.mark.parametrize("command", [("transfer",), ("check",), ("strip", "-o", "out")])
def test_remedies_are_options_that_the_command_has(run, command):
    with Image.open("source.png") as image:
        image.save("moves.gif", save_all=True, append_images=[image.rotate(90)])
    result = run(*command, "moves.gif", *(["target.png"] if command == ("transfer",) else []))
    assert result.code == 1
    assert result.lines == [
        "irnscale: error: moves.gif: has 2 frames or pages (save the one that is meant as a file of its own)"
    ]
    Path("folder").mkdir()
    result = run("transfer", "folder", "target.png")
    assert (result.code, "folder: is a folder" in result.lines[0], "-r" in result.lines[0]) == (1, True, False)
