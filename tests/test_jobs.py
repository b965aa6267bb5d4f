"""From file to file in Python: the same files, errors and warnings as the commands, without the command line."""

from __future__ import annotations

import doctest
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from commandline import picture, pixels, runner, shipped_name

import irnscale
from irnscale.batch import Job, Outcome, Selection, Status
from irnscale.errors import InputError, ModelError, OutputError, UsageError
from irnscale.jobs import files
from irnscale.jobs.down import Down
from irnscale.jobs.planning import plan
from irnscale.jobs.settings import Settings
from irnscale.jobs.up import Up


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with a photograph."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / ".models"))
    picture(tmp_path / "photo.png", 21, 14)
    return tmp_path


def test_there_and_back_writes_what_the_commands_write(here, capfdbinary, monkeypatch):
    small = irnscale.down_file("photo.png", "small.png", scale=2)
    assert small == irnscale.Written(Path("small.png"), (21, 14), (11, 7), 2, shipped_name(2), ())
    big = irnscale.up_file(small.path, here / "big.png")
    assert (big.path, big.new_size, big.scale) == (here / "big.png", (21, 14), 2)
    run = runner(capfdbinary, monkeypatch)
    assert run("down", "photo.png", "-s", 2, "-o", "s.png").code == 0
    assert run("up", "s.png", "-o", "b.png").code == 0
    assert (here / "s.png").read_bytes() == (here / "small.png").read_bytes()
    assert (here / "b.png").read_bytes() == (here / "big.png").read_bytes()


def test_names_follow_the_input_and_may_lie_in_a_folder(here):
    assert irnscale.down_file("photo.png").path == Path("photo_down4x.png")
    assert irnscale.down_file(here / "photo.png", "deep/er/", format="tiff").path == Path("deep/er/photo_down4x.tiff")
    assert irnscale.up_file("photo_down4x.png").path == Path("photo_up4x.png")
    (here / "-").write_bytes((here / "photo.png").read_bytes())
    assert irnscale.down_file("-", "from-dash.png", scale=2).size == (21, 14), "a name, and not stdin"


def test_options_mean_what_they_mean_on_the_command_line(here):
    exact = irnscale.down_file("photo.png", "exact.png", scale=2, detail="exact")
    assert irnscale.up_file(exact.path, "back.png").new_size == (21, 14)
    assert (pixels(here / "back.png") == pixels(here / "photo.png")).all()
    irnscale.up_file(exact.path, "alone.png", detail=False)
    assert (pixels(here / "alone.png") != pixels(here / "photo.png")).any()
    lossy = irnscale.down_file("photo.png", "small.jpg", scale=2, quality=90, jpeg_resistant=False)
    assert "lossy" in lossy.warnings[0]
    foreign = irnscale.up_file("photo.png", "large.png", scale=2, model="irn-x2")
    assert "no irnscale record" in foreign.warnings[0]
    assert irnscale.up_file("photo.png", "sr.png", scale=2, sr=True).new_size == (42, 28)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"source": "missing.png"}, InputError, "missing.png"),
        ({"source": "."}, InputError, "is a folder (give a picture file)"),
        ({"target": "photo.png"}, OutputError, "photo.png"),
        ({"target": "there.png"}, OutputError, "there.png: already exists"),
        ({"target": "none/there.png"}, OutputError, "none"),
        ({"target": "a.xyz"}, UsageError, ".xyz"),
        ({"scale": 5}, UsageError, "5"),
        ({"scale": 2, "model": "irn-x4"}, UsageError, "irn-x4"),
        ({"model": "nothing"}, ModelError, "nothing"),
        ({"detail": 4}, UsageError, "detail=4"),
        ({"detail": 2, "target": "a.jpg"}, UsageError, "detail=2"),
        ({"attach": "much"}, UsageError, "attach=much"),
        ({"gray": "green"}, UsageError, "gray=green"),
        ({"effort": -1}, UsageError, "effort=-1"),
        ({"max_memory": "lots"}, UsageError, "lots"),
        ({"max_memory": 0}, UsageError, "max_memory=0"),
        ({"tile": -1}, UsageError, "tile=-1"),
        ({"frames": "x"}, UsageError, "frames=x"),
        ({"depth": 12}, UsageError, "depth=12"),
        ({"strip": "x"}, UsageError, "strip=x"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(here, options, error, said):
    picture(here / "there.png", 5, 5)
    before = sorted(here.iterdir())
    given = {"source": "photo.png", "target": "new.png", **options}
    with pytest.raises(error, match=re.escape(said)) as caught:
        irnscale.down_file(given.pop("source"), given.pop("target"), **given)
    assert isinstance(caught.value, irnscale.IrnscaleError)
    assert sorted(here.iterdir()) == before


def test_an_unknown_option_is_a_mistake_of_the_program(here):
    with pytest.raises(TypeError, match=r"qualty.*quality"):
        irnscale.down_file("photo.png", qualty=3)
    for internal in ("dry_run", "threads", "output"):
        with pytest.raises(TypeError, match=internal):
            irnscale.up_file("photo.png", **{internal: 1})


def test_up_file_says_what_contradicts_the_record(here):
    irnscale.down_file("photo.png", "small.png", scale=2)
    with pytest.raises(UsageError, match="4"):
        irnscale.up_file("small.png", "b.png", scale=4)
    with pytest.raises(InputError, match="no irnscale record"):
        irnscale.up_file("photo.png", "b.png", require_provenance=True)
    with pytest.raises(UsageError, match="detail=none"):
        irnscale.up_file("small.png", "b.png", detail="none")
    with pytest.raises(UsageError, match="contradicts"):
        irnscale.up_file("small.png", "b.png", ignore_provenance=True, require_provenance=True)


def test_the_model_is_loaded_once_and_does_not_depend_on_the_call_before(here):
    files._kept.cache_clear()
    irnscale.down_file("photo.png", "a.png", scale=2)
    kept = files._kept(files._key(Settings()))
    first = dict(kept)
    irnscale.down_file("photo.png", "b.png", scale=2)
    assert kept == first
    assert len(first) == 1
    irnscale.down_file("photo.png", "c.png", scale=4)
    assert len(kept) == 2
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()


def test_the_examples_of_the_docstrings_run(here):
    from PIL import Image

    Image.fromarray(np.tile(pixels(here / "photo.png"), (5, 5, 1))[:64, :96]).save(here / "photo.png")
    found = doctest.DocTestFinder().find(files, "irnscale.jobs.files")
    examples = [test for test in found if test.examples]
    assert [test.name.rsplit(".", 1)[1] for test in examples] == ["down_file", "up_file"]
    for test in examples:
        assert doctest.DocTestRunner().run(test).failed == 0


def test_work_is_picklable_and_the_same_afterwards(here):
    tasks = [
        Down(Settings(), 2, "exact", "10K", 3, "color"),
        Up(Settings(model="irn-x2"), 2, (42, 28), ignore=True, temperature=0.5, seed=7),
    ]
    for task in tasks:
        planned = plan(task, Selection(("photo.png",)), lambda message: None)
        copy, job = pickle.loads(pickle.dumps((task, planned.jobs[0])))
        assert (copy, job) == (task, planned.jobs[0])
        assert copy.fingerprint == task.fingerprint
        assert copy.choose("photo.png", None).settings == task.choose("photo.png", None).settings


def test_an_outcome_with_an_error_is_picklable(here):
    task = Down(Settings())
    [job] = plan(task, Selection(("photo.png",)), lambda message: None).jobs
    error = UsageError("sr=1 is wrong", "leave `sr` out", parameters=("sr",))
    back: Outcome = pickle.loads(pickle.dumps(Outcome(job, Status.FAILED, error=error, notes=["odd"])))
    assert isinstance(back.job, Job)
    assert back.error is not None
    assert (type(back.error), back.error.line) == (UsageError, "--sr 1 is wrong (leave --sr out)")
    assert back.event() == Outcome(job, Status.FAILED, error=error, notes=["odd"]).event()
