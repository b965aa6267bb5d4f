"""`irnscale evaluate`: the loop, its cache and what it prints."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Run, picture, runner, tiny_model
from conftest import synthetic_photo
from PIL import Image

import irnscale
from irnscale.errors import InputError, UsageError
from irnscale.evaluation.cache import PROTOCOL, Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.loop import evaluate
from irnscale.evaluation.methods import Method, baselines, model_method, published_bicubic, sampled
from irnscale.evaluation.pictures import Photograph, load
from irnscale.evaluation.ruler import Row, Ruler, compare_rulers, make
from irnscale.images.picture import Picture
from irnscale.images.write import encode_picture
from irnscale.metrics import as_8bit, psnr, ssim
from irnscale.metrics.scores import Score, Seen, chosen
from irnscale.zoo import models

SETS = Path(__file__).parents[2] / "shared" / "data" / "test"


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two photographs, one of odd size, one gray."""
    folder = tmp_path / "set"
    folder.mkdir()
    picture(folder / "a.png", 63, 58)
    picture(folder / "b.png", 60, 64, "L")
    return folder


def measure(method: Method, photograph: Photograph, codec: Codec, ruler: Ruler | None = None) -> Row:
    return (ruler or Ruler()).row(photograph, make(method, photograph, codec))


def test_a_row_by_hand(photos):
    photograph = load(photos / "a.png", 4)
    assert photograph.pixels.shape == (1, 3, 56, 60)
    bicubic = baselines(4)[0]
    row = measure(bicubic, photograph, Codec())
    small = bicubic.shrink(photograph.pixels)
    stored = (small.clamp(0, 1) * 255).round() / 255
    restored = bicubic.restore(stored, 0)
    assert row["psnr_y"] == pytest.approx(psnr(restored, photograph.pixels, crop=4).item())
    assert row["ssim_rgb"] == pytest.approx(ssim(restored, photograph.pixels, crop=4, y_channel=False).item())
    assert (row["lr_psnr_y"], row["lr_ssim_y"]) == (100.0, pytest.approx(1))
    assert row["bpp"] == 8 * row["bytes"] / (56 * 60)
    rounded = measure(bicubic, photograph, Codec(), Ruler(rounded_luma=True))
    assert 0 < abs(rounded["psnr_y"] - row["psnr_y"]) < 0.3
    assert rounded["psnr_rgb"] == row["psnr_rgb"]


def test_gray_by_both_protocols(photos):
    """As luma of colour its contrast is 219 / 255 of the gray's, and so is its error."""
    photograph = load(photos / "b.png", 4)
    bicubic = baselines(4)[0]
    paper, matlab = (measure(bicubic, photograph, Codec(), Ruler(rounded)) for rounded in (False, True))
    assert paper["psnr_y"] - matlab["psnr_y"] == pytest.approx(20 * np.log10(255 / 219), abs=1e-6)
    assert matlab["psnr_y"] == pytest.approx(matlab["psnr_rgb"])


def test_the_published_bicubic_keeps_its_small_picture_exact(photos):
    photograph = load(photos / "a.png", 4)
    exact, stored = published_bicubic(4), baselines(4)[0]
    assert exact.shrink is stored.shrink
    row = measure(exact, photograph, Codec())
    wanted = psnr(exact.restore(exact.shrink(photograph.pixels), 0), photograph.pixels, crop=4).item()
    assert row["psnr_y"] == pytest.approx(wanted)
    assert row["psnr_y"] != measure(stored, photograph, Codec())["psnr_y"]


def test_the_fast_ruler(photos):
    fast = Ruler(device=torch.device("cpu"))
    ratio, likeness, photographs = compare_rulers([photos], baselines(4), fast)
    assert photographs == 1
    assert 0 < ratio < 1e-3
    assert 0 < likeness < 1e-5


def test_gray_is_repeated(photos):
    pixels = load(photos / "b.png", 2).pixels
    assert pixels.shape == (1, 3, 64, 60)
    assert (pixels[:, 0] == pixels[:, 2]).all()


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_the_codec_is_the_real_one(quality):
    small = torch.from_numpy(synthetic_photo(32, 40)).permute(2, 0, 1)[None].float() / 255
    pixels, size = Codec(quality, "4:2:0").store(small)
    assert pixels.shape == small.shape
    assert not torch.equal(pixels, small)
    same, larger = Codec().store(small)
    assert torch.equal(same, small)
    assert 0 < size < larger
    assert Codec(quality, "4:4:4").store(small)[1] > size
    with pytest.raises(UsageError):
        Codec(101)
    with pytest.raises(UsageError):
        Codec(50, "4:1:1")


def counted(photos: Path, cache: Cache, identity: str = "one", ruler: Ruler | None = None) -> tuple[list, list]:
    """The summaries, and a list with an entry per run of the method."""
    calls = []

    def shrink(x):
        calls.append(x.shape)
        return baselines(2)[0].shrink(x)

    method = Method("counted", 2, identity, shrink, baselines(2)[0].restore)
    summaries = evaluate(photos, [method], [Codec()], cache=cache, ruler=ruler)
    return summaries, calls


def test_only_what_is_new_is_measured(photos, tmp_path):
    path = tmp_path / "cache" / "rows"
    first, calls = counted(photos, Cache(path))
    assert len(calls) == 2
    row = json.loads(path.read_text().splitlines()[0])
    damaged = [5, "score", {"key": "a", "score": 10**400}, {"key": "b", "row": dict.fromkeys(row["row"], "good")}]
    lines = [*map(json.dumps, [*damaged, {"key": "c", "row": list(row["row"])}]), "[" * 200_000, "{cut off"]
    path.write_text(path.read_text() + "\n".join(lines))
    second, calls = counted(photos, Cache(path))
    assert calls == []
    assert second == first
    picture(photos / "c.png", 30, 30)
    third, calls = counted(photos, Cache(path))
    assert (len(calls), third[0].images) == (1, 3)
    assert len(counted(photos, Cache(path), "other weights")[1]) == 3
    assert len(counted(photos, Cache(None))[1]) == 3
    picture(photos / "a.png", 62, 58)
    assert len(counted(photos, Cache(path))[1]) == 1


def test_means_and_extremes(photos):
    (summary,) = evaluate(photos, baselines(2)[:1], [Codec()], cache=Cache(None))
    values = [row["psnr_y"] for row in summary.rows.values()]
    assert summary.mean["psnr_y"] == pytest.approx(np.mean(values))
    assert (summary.min["psnr_y"], summary.max["psnr_y"]) == (min(values), max(values))
    assert list(summary.rows) == ["a.png", "b.png"]


def test_what_cannot_be_read_is_never_averaged_in(run, photos):
    sound = run("evaluate", "--data", photos, "-s", 2, "-m", "irn-x2", "--json")
    (photos / "0.png").write_text("no picture")
    result = run("evaluate", "--data", photos, "-s", 2, "-m", "irn-x2", "--json")
    assert (sound.code, result.code) == (0, 1)
    assert len(result.lines) == 1
    assert "0.png" in result.lines[0]
    assert result.text == sound.text, "and two runs give the same numbers, seconds included: they are kept"
    for name in ("a.png", "b.png"):
        (photos / name).unlink()
    assert run("evaluate", "--data", photos).code == 1


def test_the_table_json_and_csv(run, photos, tmp_path):
    models = ["-m", "irn-x2", "-m", "irn-x4"]
    command = ["evaluate", "--data", photos, "-s", "2,4", *models, "--jpeg", "80", "--sr", "--csv", "rows.csv"]
    table = run(*command)
    assert table.code == 0, table.lines
    lines = [line.split() for line in table.text.splitlines() if line.strip()]
    assert lines[0][:3] == ["set", "scale", "method"]
    assert len(lines) == 1 + 2 * (2 * (2 + 1 + 1) + 1), "as PNG and JPEG; the assistant of irn-x4 besides"
    records = [json.loads(line) for line in run(*command[:-2], "--json").text.splitlines()]
    assert len(records) == 18
    wanted = {"psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lr_psnr_y", "lr_ssim_y", "bytes", "seconds", "min", "max"}
    assert all(wanted <= set(record) for record in records)
    best = {record["method"]: record["psnr_y"] for record in records if record["codec"] == "png"}
    assert best["irn-x4"] > best["bicubic"]
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert len(rows) == 36
    mean = np.mean([float(r["psnr_y"]) for r in rows if r["method"] == "irn-x4" and r["stored"] == "png"])
    assert mean == pytest.approx(best["irn-x4"])
    assert run(*command).code == 5, "an existing file is not replaced"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-s", "5"],
        ["-s", "two"],
        ["-m", "irn-x2", "--jpeg", "0"],
        ["--limit", "0"],
        ["--temperature", "a"],
        ["-m", "irn-x2", "--temperature", "0.5,nan"],
        ["-m", "irn-x2", "--temperature", "0"],
        ["-m", "irn-x2", "-s", "4"],
        ["-m", "irn-x2", "--subsampling", "4:1:9"],
    ],
)
def test_wrong_options(run, photos, arguments):
    result = run("evaluate", "--data", photos, *arguments)
    assert (result.code, len(result.lines)) == (2, 1)


@pytest.mark.parametrize("option", ["--csv", "--report", "--fit-niqe"])
def test_no_input_is_written_over(run, photos, option):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    result = run("evaluate", "--data", photos, "-s", 2, "--limit", 1, option, photos / "b.png", "--overwrite")
    assert (result.code, len(result.lines)) == (5, 1)
    assert f"{photos / 'b.png'}: the output would replace the input" in result.lines[0]
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


def test_two_outputs_have_two_places(run, photos, tmp_path):
    for place in (tmp_path / "x", tmp_path / "sub" / ".." / "x"):
        result = run("evaluate", "--data", photos, "-s", 2, "--csv", tmp_path / "x", "--report", place)
        assert (result.code, "two outputs would be written there" in result.lines[0]) == (5, True)
    assert not (tmp_path / "x").exists()


def test_installed_models_are_measured_and_broken_cards_named(run, photos, tmp_path):
    tiny_model(tmp_path / "models")
    (tmp_path / "models" / "broken.json").write_text("{")
    result = run("evaluate", "--data", photos, "-s", 2, "--limit", 1, "--json")
    assert result.code == 0
    assert len(result.lines) == 1
    assert "broken.json" in result.lines[0]
    methods = [json.loads(line)["method"] for line in result.text.splitlines()]
    measured = [m.card.name for m in models({}) if m.task == "rescaling" and m.card.scale == 2]
    assert methods == ["bicubic", "lanczos", *measured]
    assert {"irn-jpeg-x2", "irn-x2", "tiny"} <= set(methods)


def test_sets_are_told_apart_by_name(run, tmp_path, monkeypatch):
    for folder in ("x/Set", "y/Set"):
        (tmp_path / folder).mkdir(parents=True)
        picture(tmp_path / folder / "a.png", 40, 40)
    result = run("evaluate", "--data", tmp_path / "x/Set", "--data", tmp_path / "y/Set")
    assert (result.code, len(result.lines)) == (2, 1)
    assert "2 sets are called Set" in result.lines[0]
    monkeypatch.chdir(tmp_path / "x/Set")
    for folder in (".", "../Set"):
        assert (
            json.loads(run("evaluate", "--data", folder, "-m", "irn-x2", "--json").text.splitlines()[0])["set"] == "Set"
        )


def test_what_is_given_twice_is_measured_once(run, photos):
    options = "--jpeg", "50,50", "--subsampling", "4:2:0,4:2:0", "--temperature", "0.5,0.5", "-m", "irn-x2"
    rows = run("evaluate", "--data", photos, "--limit", 1, "--json", *options, *options[-2:]).text.splitlines()
    shown = [(row["method"], row["codec"]) for row in map(json.loads, rows)]
    assert len(shown) == len(set(shown))


def test_a_photograph_too_small_for_a_score_is_named(run, tmp_path):
    picture(tmp_path / "large.png", 60, 60)
    picture(tmp_path / "small.png", 16, 16)
    assert "small.png: too small" in run("evaluate", "--data", tmp_path, "-s", 4, "-m", "irn-x4").text
    (tmp_path / "small.png").unlink()
    assert "too small" not in run("evaluate", "--data", tmp_path, "-s", 4, "-m", "irn-x4").text


def test_folders_without_pictures(tmp_path, run):
    assert run("evaluate", "--data", tmp_path / "gone").code == 1
    assert run("evaluate", "--data", tmp_path).code == 1
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(tmp_path / "a.png")
    picture(tmp_path / "b.png", 3, 3)
    for name in ("a.png", "b.png"):
        with pytest.raises(InputError, match=name):
            load(tmp_path / name, 4)
    assert PROTOCOL


def test_sampled_z(photos):
    rescaler = irnscale.load("irn-x2", precision="float32", device="cpu")
    small = rescaler.down(load(photos / "a.png", 2).pixels)
    zero = model_method(rescaler).restore(small, 0)
    faint, loud = (sampled(rescaler, t, draws=3, seed=7) for t in (1e-6, 0.05))
    assert (faint.restore(small, 0) - zero).abs().max() < 1.1 / 255, "no temperature is z = 0"
    again, other = loud.restore(small, 1), loud.restore(small, 2)
    assert torch.equal(loud.restore(small, 1), again)
    assert torch.equal(sampled(rescaler, 0.05, draws=1, seed=8).restore(small, 0), again), "draw 1 has the next seed"
    assert (other - again).abs().mean() > (faint.restore(small, 0) - zero).abs().mean()
    for temperature, draws in ((0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)):
        with pytest.raises(UsageError):
            sampled(rescaler, temperature, draws=draws, seed=0)


def test_the_spread_is_between_draws(photos):
    """Draw k is off by k levels of gray everywhere: rows are means over draws, the spread that of the sets' means."""
    bicubic = baselines(2)[0]
    method = Method("random", 2, "r", bicubic.shrink, lambda x, draw: bicubic.restore(x, 0) + draw / 20, draws=3)
    (summary,) = evaluate(photos, [method], [Codec()], cache=Cache(None))
    alone = []
    for draw in range(3):
        fixed = Method("fixed", 2, "f", bicubic.shrink, lambda x, _, d=draw: bicubic.restore(x, 0) + d / 20)
        alone += evaluate(photos, [fixed], [Codec()], cache=Cache(None))
        assert alone[-1].spread == {}
    means = [one.mean["psnr_y"] for one in alone]
    assert summary.mean["psnr_y"] == pytest.approx(np.mean(means))
    assert summary.spread["psnr_y"] == pytest.approx(np.std(means, ddof=1))
    assert summary.rows["a.png"]["psnr_y"] == pytest.approx(np.mean([one.rows["a.png"]["psnr_y"] for one in alone]))
    assert summary.spread["bytes"] == 0


def test_a_further_score_is_kept_beside_what_was_measured(photos, tmp_path):
    """Rows are not measured anew for it, nor it for another folder; other numbers behind a name are another score."""
    looked: list[int] = []

    def reads(value: float, identity: str) -> Score:
        def of(seen: Seen) -> float:
            looked.append(seen.scale)
            return value if seen.original.shape[2] == 58 else math.nan

        return Score("mine", "mine", "a test's", True, 2, identity, of=of)

    path = tmp_path / "cache" / "rows"
    first, _ = counted(photos, Cache(path))
    cost = first[0].mean["seconds"]
    for value, identity, looks in ((0.5, "1", 2), (0.5, "1", 0), (0.7, "2", 2)):
        looked.clear()
        cache, ruler = Cache(path), Ruler(scores=(reads(value, identity),))
        (summary,), calls = counted(photos, cache, ruler=ruler)
        assert looked == [2] * looks
        assert len(calls) == looks
        assert summary.mean["seconds"] == cost, "the rest is as it was"
        assert summary.rows["a.png"]["mine"] == value
        assert math.isnan(summary.rows["b.png"]["mine"])
        assert math.isnan(summary.mean["mine"])
    assert "mine" not in counted(photos, Cache(path))[0][0].mean


def test_a_score_of_all_draws(photos, tmp_path):
    bicubic = baselines(2)[0]
    shift = 2 / 255
    method = Method("random", 2, "r", bicubic.shrink, lambda x, draw: 0.4 + 0 * bicubic.restore(x, 0) + draw * shift)
    method, ruler = replace(method, draws=3), Ruler(scores=chosen(["diversity"]).more)
    for _ in range(2):
        cache = Cache(tmp_path / "rows")
        fixed, several = evaluate(photos, [bicubic, method], [Codec()], cache=cache, ruler=ruler)
        assert math.isnan(fixed.mean["diversity"])
        assert several.mean["diversity"] == pytest.approx(2)
        assert several.spread["diversity"] == 0


def test_metrics_on_the_command_line(run, photos, tmp_path):
    big = picture(photos / "c.png", 120, 100)
    command = "evaluate", "--data", photos, "-s", 2, "-m", "irn-x2", "--metrics", "psnr,piqe,niqe-house,lr-psnr"
    result = run(*command)
    assert result.code == 0
    head, whole = result.text.splitlines()[:2]
    wanted = "set scale method stored HR PSNR-Y PSNR-RGB LR PSNR-Y PSNR-RGB PIQE NIQE (house) LR-PSNR bytes s"
    assert " ".join(head.split()) == wanted
    assert whole.split()[1:4] == ["x1", "full", "size"], "what a perfect restoration would read"
    assert " - " in whole, "two of the three are smaller than a patch"
    rows = [json.loads(line) for line in run(*command, "--json").text.splitlines()]
    assert all({"piqe", "niqe_house", "lr_psnr", "ssim_y"} <= set(row) for row in rows)
    run(*command, "--csv", tmp_path / "rows.csv", "--report", tmp_path / "r.html", "--crops", 0)
    with (tmp_path / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["photograph"] for row in table if row["niqe_house"] != "nan"} == {big.name}
    assert "<th>NIQE (house)</th>" in (tmp_path / "r.html").read_text()
    checked = run("check", big, "-s", 2, "--metrics", "ssim,piqe,lr-psnr", "--json")
    assert {"piqe", "lr_psnr"} <= set(json.loads(checked.text))
    shown = run("check", big, "-s", 2, "--metrics", "ssim,piqe,lr-psnr").text.splitlines()[0]
    assert ("PSNR-Y" in shown, "SSIM-Y" in shown, "PIQE" in shown, "LR-PSNR" in shown) == (False, True, True, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "psnr,nique"], "'nique'"),
        (["--metrics", ""], "no score"),
        (["--metrics", "niqe"], "--niqe FILE"),
        (["--metrics", "niqe", "--niqe", "none.mat"], "none.mat"),
        (["--lpips", "a.pth"], "--metrics"),
        (["--fit-niqe", "m.json"], "too few"),
    ],
)
def test_wrong_metrics(run, photos, options, message):
    result = run("evaluate", "--data", photos, "-m", "irn-x2", *options)
    assert result.code != 0
    assert len(result.lines) == 1
    assert message in result.lines[0]


def test_a_model_of_niqe_of_one_s_own(run, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for seed in range(2):
        noise = np.random.default_rng(seed).uniform(0, 255, (480, 480, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{seed}.png")
    assert run("evaluate", "--data", folder, "--fit-niqe", "mine.json").code == 0
    options = "-s", 2, "-m", "irn-x2", "--limit", 1, "--json", "--metrics", "niqe", "--niqe", "mine.json"
    rows = [json.loads(line) for line in run("evaluate", "--data", folder, *options).text.splitlines()]
    reads = {row["method"]: row["niqe"] for row in rows}
    assert reads["full size"] < 3 < reads["bicubic"]


@pytest.mark.parametrize("codecs", [[Codec()], [Codec(), Codec(30), Codec(90)]])
def test_codecs_share_a_small_picture(photos, codecs):
    """The network's first direction is half of the work."""
    calls = []

    def shrink(x):
        calls.append(x.shape)
        return baselines(2)[0].shrink(x)

    method = Method("counted", 2, "one", shrink, baselines(2)[0].restore)
    summaries = evaluate(photos, [method], codecs, cache=Cache(None))
    assert len(calls) == 2
    assert [summary.codec for summary in summaries] == codecs


@pytest.mark.skipif(not SETS.is_dir(), reason="the test photographs are not in the repository")
@pytest.mark.parametrize(
    ("name", "scale", "published"),
    [
        ("Set5", 2, (33.66, 0.9299)),
        ("Set5", 4, (28.42, 0.8104)),
        pytest.param("Set14", 2, (30.24, 0.8688), marks=pytest.mark.slow),
        pytest.param("Set14", 4, (26.00, 0.7027), marks=pytest.mark.slow),
    ],
)
def test_published_bicubic_rows(name, scale, published):
    ruler = Ruler(rounded_luma=True)
    (summary,) = evaluate(SETS / name, [published_bicubic(scale)], [Codec()], cache=Cache(None), ruler=ruler)
    assert summary.mean["psnr_y"] == pytest.approx(published[0], abs=0.01)
    assert summary.mean["ssim_y"] == pytest.approx(published[1], abs=0.0005)


@pytest.mark.skipif(not SETS.is_dir(), reason="the test photographs are not in the repository")
def test_bicubic_by_the_paper_s_own_protocol():
    (summary,) = evaluate(SETS / "Set5", baselines(4)[:1], [Codec()], cache=Cache(None))
    assert summary.mean["psnr_y"] == pytest.approx(28.43, abs=0.01)
    assert summary.mean["ssim_y"] == pytest.approx(0.8113, abs=0.0005)


@pytest.mark.parametrize(
    "codec", [Codec(), Codec(90), Codec(30, "4:4:4"), Codec(format="webp"), Codec(50, format="webp")]
)
def test_codecs_write_as_down_does(codec):
    """But for AVIF, which is tuned for PSNR here."""
    pixels = synthetic_photo(40, 52)
    chroma = codec.subsampling if codec.format == "jpg" else None
    plain = Picture(pixels, None, False, False, 8, None, None, None, "png", "")
    data = encode_picture(plain, codec.format, quality=codec.quality, subsampling=chroma)
    back, size = codec.store(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert size == len(data)
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.array(image.convert("RGB"))
    assert np.array_equal(as_8bit(back)[0].permute(1, 2, 0).numpy(), wanted)
