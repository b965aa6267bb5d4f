"""Photographs, packs of them, and their crops."""

from __future__ import annotations

import io
import itertools
import tarfile

import numpy as np
import pytest
import torch
from conftest import synthetic_photo
from PIL import Image

from irnscale.errors import InputError, ModelError, OutputError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.train import data as data_module
from irnscale.train.data import Photographs
from irnscale.train.pack import load_pack, write_pack
from irnscale.train.validate import validation_images


@pytest.fixture
def folder(tmp_path):
    """Two photographs, one too small, one damaged, a text file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, size in enumerate([(36, 50), (61, 41), (8, 80)]):
        Image.fromarray(synthetic_photo(*size, seed=index)).save(folder / f"{index}.png")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photograph")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_photographs_of_a_folder(folder):
    photographs = Photographs([folder], scale=4, crop=16)
    assert len(photographs) == 2
    assert photographs.too_small == 1
    assert [line.split("/")[-1].split(":")[0] for line in photographs.unreadable] == ["damaged.jpg"]
    pictures = [photographs.photograph(index) for index in range(2)]
    assert [(p.dtype, tuple(p.shape)) for p in pictures] == [(torch.uint8, (3, 36, 48)), (torch.uint8, (3, 60, 40))]
    expected = torch.from_numpy(synthetic_photo(61, 41, seed=1)).permute(2, 0, 1)
    assert torch.equal(pictures[1], expected[:, :60, :40])


@pytest.mark.parametrize("scale", [2, 4])
def test_crops_of_hr_and_lr_are_one_place(folder, scale):
    photographs = Photographs([folder], scale=scale, crop=16)
    small = 16 // scale
    variants = set()
    for step in range(12):
        hr, lr = photographs.batch(4, seed=1, step=step)
        assert hr.shape == (4, 3, 16, 16)
        assert lr.shape == (4, 3, small, small)
        for one, reference in zip(hr, lr, strict=True):
            found = locate(photographs, one)
            assert len(found) == 1, "every crop is one place of one photograph on the LR grid"
            index, top, left, flips, transpose = found[0]
            full = bicubic_down(photographs.photograph(index)[None].float() / 255, scale)[0]
            patch = full[:, top : top + small, left : left + small].flip(flips)
            torch.testing.assert_close(reference, patch.transpose(1, 2) if transpose else patch, rtol=0, atol=2e-6)
            variants.add((flips, transpose))
    assert len(variants) == 8, "all flips and rotations occur"


def test_crops_that_are_only_mirrored(folder):
    photographs = Photographs([folder], scale=4, crop=16, turns="mirror")
    turned = Photographs([folder], scale=4, crop=16)
    variants = set()
    for step in range(8):
        hr, _ = photographs.batch(4, seed=1, step=step)
        variants |= {found[0][3:] for one in hr if len(found := locate(photographs, one)) == 1}
        assert np.array_equal(photographs.places(4, seed=1, step=step).top, turned.places(4, seed=1, step=step).top), (
            "the same places"
        )
    assert variants == {((), False), ((2,), False)}


def locate(photographs: Photographs, crop: torch.Tensor) -> list[tuple]:
    """(photograph, top, left on the LR grid, flips, transposed) of every place that equals `crop`."""
    found = []
    scale, size = photographs.scale, photographs.crop
    for index in range(len(photographs)):
        places = (
            (photographs.photograph(index).float() / 255).unfold(1, size, scale).unfold(2, size, scale).movedim(0, 2)
        )
        for flips in ((), (1,), (2,), (1, 2)):
            for transpose in (False, True):
                original = (crop.transpose(1, 2) if transpose else crop).flip(flips)
                for top, left in (places == original).all(dim=(2, 3, 4)).nonzero().tolist():
                    found.append((index, top, left, flips, transpose))
    return found


def test_batches_are_a_function_of_seed_and_step(folder):
    one, two = (Photographs([folder], scale=2, crop=16) for _ in range(2))
    for a, b in zip(one.batch(3, seed=5, step=7), two.batch(3, seed=5, step=7), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.batch(3, seed=5, step=7)[0], one.batch(3, seed=5, step=8)[0])
    assert not torch.equal(one.batch(3, seed=5, step=7)[0], one.batch(3, seed=6, step=7)[0])


def test_photographs_of_an_archive(folder, tmp_path):
    with tarfile.open(folder / "some.tar", "w") as archive:
        data = io.BytesIO()
        Image.fromarray(synthetic_photo(40, 40)).convert("L").save(data, "png")
        member = tarfile.TarInfo("inner/gray.png")
        member.size = len(data.getvalue())
        archive.addfile(member, io.BytesIO(data.getvalue()))
    photographs = Photographs([folder / "some.tar"], scale=2, crop=16)
    assert photographs.photograph(0).shape == (3, 40, 40)
    assert photographs.names == ["some.tar/inner/gray.png"]
    assert len(Photographs([folder], scale=2, crop=16)) == 3, "archives in folders count"
    assert len(validation_images([folder / "some.tar"], scale=2, limit=3)) == 1


def test_a_crop_may_be_a_whole_photograph(folder):
    """Then every pixel of LR is at the mirrored border, and a margin may be wider than the photograph."""
    Image.fromarray(synthetic_photo(9, 9, seed=5)).save(folder / "tiny.png")
    photographs = Photographs([folder / "tiny.png"], scale=3, crop=9)
    full = bicubic_down(photographs.photograph(0)[None].float() / 255, 3)[0]
    hr, lr = photographs.batch(8, seed=0, step=0)
    places = photographs.places(8, seed=0, step=0)
    for n in range(8):
        turned = lr[n].transpose(1, 2) if places.transpose[n] else lr[n]
        flips = [axis for axis, flip in ((1, places.flip_rows[n]), (2, places.flip_columns[n])) if flip]
        torch.testing.assert_close(turned.flip(flips), full, rtol=0, atol=2e-6)
    assert hr.shape == (8, 3, 9, 9)


def test_parts_make_the_whole(folder):
    """Processes and pieces of a batch see what one process sees."""
    photographs = Photographs([folder], scale=2, crop=16)
    whole = photographs.batch(4, seed=1, step=2)
    parts = [photographs.batch(4, seed=1, step=2, rows=rows) for rows in (slice(0, 1), slice(1, 4))]
    for one, two in zip(whole, map(torch.cat, zip(*parts, strict=True)), strict=True):
        assert torch.equal(one, two)


def test_a_pack_gives_the_same_crops(folder, tmp_path):
    index, unreadable = write_pack([folder], tmp_path / "all.pack", minimum=16)
    assert [len(index.names), index.skipped, len(unreadable)] == [2, 1, 1]
    pack = tmp_path / "all.pack"
    assert pack.stat().st_size == 3 * (36 * 50 + 61 * 41)
    loose, packed = Photographs([folder], scale=2, crop=16), Photographs([pack], scale=2, crop=16)
    assert (packed.names, packed.too_small, packed.resident) == (loose.names, 1, False)
    ours = packed.batches(3, seed=5, first=7, rows=slice(1, 3))
    for step, (one, two) in enumerate(itertools.islice(zip(loose.batches(3, seed=5, first=7), ours, strict=True), 12)):
        assert torch.equal(one[0][1:], two[0]), step
        torch.testing.assert_close(one[1][1:], two[1], rtol=0, atol=1e-6)
    ours.close()
    assert Photographs([pack], scale=2, crop=40).too_small == 2


def test_what_is_no_pack(folder, tmp_path):
    pack = tmp_path / "all.pack"
    with pytest.raises(UsageError, match="is named"):
        write_pack([folder], tmp_path / "all.bin")
    with pytest.raises(InputError, match="no photographs of at least 400 x 400"):
        write_pack([folder], pack, minimum=400)
    with pytest.raises(OutputError, match="could not be written"):
        write_pack([folder], tmp_path / "nowhere" / "all.pack")
    with pytest.raises(InputError, match="no such pack"):
        load_pack(pack)
    write_pack([folder], pack)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.pack", "all.pack.json", "folder"]
    with pytest.raises(OutputError, match="exists already"):
        write_pack([folder], pack)
    with pytest.raises(UsageError, match="given alone"):
        Photographs([folder, pack], scale=2, crop=16)
    index = (tmp_path / "all.pack.json").read_text()
    for text, word in [
        ("{", "unreadable"),
        ("[" * 200_000, "unreadable"),
        (index.replace("36", "1" + "0" * 400), "unreadable"),
        (index.replace("36", "35"), "does not fit"),
        ('{"version": 9}', "version"),
    ]:
        (tmp_path / "all.pack.json").write_text(text)
        with pytest.raises(ModelError, match=word):
            load_pack(pack)
    (tmp_path / "all.pack.json").unlink()
    with pytest.raises(ModelError, match="is missing"):
        load_pack(pack)
    write_pack([folder], pack, overwrite=True)
    assert len(load_pack(pack)[1].names) == 3


def test_photographs_that_fit_no_memory(folder, monkeypatch):
    monkeypatch.setattr(data_module, "_free_memory", lambda: 20_000)
    with pytest.raises(UsageError, match="irnscale train pack"):
        Photographs([folder], scale=2, crop=16)


def test_nothing_to_train_on(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar").write_text("nonsense")
    for kind in ("gz", "xz", "bz2"):
        with tarfile.open(tmp_path / f"{kind}.tar", f"w:{kind}") as archive:
            archive.add(folder / "0.png")
        whole = (tmp_path / f"{kind}.tar").read_bytes()
        (tmp_path / f"{kind}.tar").write_bytes(whole[: len(whole) // 3])
        (tmp_path / f"{kind}-hole.tar").write_bytes(whole[:200] + bytes(200) + whole[400:])
    Image.fromarray(np.full((40, 40), 60_000, np.uint16)).save(tmp_path / "deep.png")
    for source, crop, word in [
        ("empty", 16, "no photographs of at least 16 x 16"),
        ("folder", 4096, "3 too small, 1 unreadable"),
        ("nowhere", 16, "no such file or folder"),
        ("bad.tar", 16, "archive"),
        *((f"{kind}{damage}.tar", 16, "archive") for kind in ("gz", "xz", "bz2") for damage in ("", "-hole")),
        ("deep.png", 16, "1 unreadable"),
    ]:
        with pytest.raises(InputError, match=word):
            Photographs([tmp_path / source], scale=2, crop=crop)
