"""Padding, bleeding under transparency and the bicubic ruler: pure arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irnscale.images.alpha import bleed
from irnscale.images.bicubic import bicubic_down, bicubic_up
from irnscale.images.padding import pad_to_multiple


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 17), st.booleans())
def test_padding_is_minimal_and_keeps_the_picture(height, width, multiple, colour):
    array = np.arange(height * width * (3 if colour else 1)).reshape((height, width, 3)[: 2 + colour])
    padded, (right, bottom) = pad_to_multiple(array, multiple)
    assert 0 <= right < multiple
    assert 0 <= bottom < multiple
    assert padded.shape[:2] == (height + bottom, width + right)
    assert not padded.shape[0] % multiple
    assert not padded.shape[1] % multiple
    np.testing.assert_array_equal(padded[:height, :width], array)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 17))
def test_padding_is_numpys_reflection_where_that_reaches(height, width, multiple):
    array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded, (right, bottom) = pad_to_multiple(array, multiple)
    if right < width and bottom < height:
        np.testing.assert_array_equal(padded, np.pad(array, ((0, bottom), (0, right), (0, 0)), mode="reflect"))


@pytest.mark.parametrize(
    ("row", "multiple", "expected"),
    [([7], 4, [7, 7, 7, 7]), ([1, 2], 8, [1, 2, 1, 1, 1, 1, 1, 1]), ([1, 2, 3], 8, [1, 2, 3, 2, 1, 1, 1, 1])],
)
def test_padding_repeats_where_reflection_ends(row, multiple, expected):
    padded, _ = pad_to_multiple(np.array([row]), multiple)
    assert padded[0].tolist() == expected


@pytest.mark.parametrize(
    ("shape", "multiple"), [((0, 3), 2), ((3, 0, 3), 2), ((3,), 2), ((1, 1, 1, 1), 2), ((3, 3), 0)]
)
def test_padding_refuses(shape, multiple):
    with pytest.raises(ValueError, match=r"."):
        pad_to_multiple(np.zeros(shape), multiple)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bleed_replaces_only_what_is_hidden(dtype):
    rng = np.random.default_rng(1)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top, (37, 53, 3), dtype=dtype)
    alpha = rng.integers(0, 2, (37, 53), dtype=dtype)
    result = bleed(pixels, alpha)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[alpha > 0], pixels[alpha > 0])


def test_bleed_takes_the_colour_of_the_visible_object():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:] = (0, 255, 0)  # hidden green screen
    alpha = np.zeros((64, 64), np.uint8)
    pixels[20:41, 20:41] = (200, 10, 30)
    alpha[20:41, 20:41] = 255
    assert (bleed(pixels, alpha) == (200, 10, 30)).all()


def test_bleed_takes_the_nearer_of_two_objects():
    pixels = np.zeros((16, 64, 3), np.uint8)
    alpha = np.zeros((16, 64), np.uint8)
    alpha[:, 0] = alpha[:, -1] = 1
    pixels[:, 0], pixels[:, -1] = 250, 50
    result = bleed(pixels, alpha)
    assert (result[:, 1:16] == 250).all()
    assert (result[:, -16:-1] == 50).all()


@pytest.mark.parametrize("level", [0, 255])
def test_bleed_leaves_uniform_alpha_alone(level):
    pixels = np.random.default_rng(2).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bleed(pixels, np.full((5, 7), level, np.uint8)), pixels)


def test_bleed_refuses_another_size():
    with pytest.raises(ValueError, match="does not fit"):
        bleed(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8))


def keys(x):
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


def imresize_matrix(size, target):
    """MATLAB's contributions() written out: one row of weights per output pixel."""
    scale = target / size
    widen = min(scale, 1.0)
    width = 4 / widen
    matrix = np.zeros((target, size))
    period = np.r_[np.arange(size), np.arange(size)[::-1]]
    for i in range(target):
        centre = (i + 0.5) / scale - 0.5
        taps = np.floor(centre - width / 2).astype(int) + np.arange(int(np.ceil(width)) + 2)
        weights = widen * keys(widen * (centre - taps))
        np.add.at(matrix[i], period[taps % (2 * size)], weights / weights.sum())
    return matrix


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("small", [(1, 1), (1, 5), (2, 3), (7, 6), (13, 20)])
@pytest.mark.parametrize("way", ["down", "up"])
def test_bicubic_is_imresize(scale, small, way):
    large = (small[0] * scale, small[1] * scale)
    source, target = (large, small) if way == "down" else (small, large)
    x = np.random.default_rng(3).random((2, 3, *source))
    expected = imresize_matrix(source[0], target[0]) @ x @ imresize_matrix(source[1], target[1]).T
    function = bicubic_down if way == "down" else bicubic_up
    for dtype in (torch.float32, torch.float64):
        result = function(torch.from_numpy(x).to(dtype), scale)
        assert result.shape[2:] == target
        assert np.abs(result.numpy() - expected).max() < 1e-5


def test_bicubic_refuses():
    with pytest.raises(ValueError, match="not divisible"):
        bicubic_down(torch.zeros(1, 3, 8, 9), 2)
    with pytest.raises(ValueError, match="floats"):
        bicubic_down(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="floats"):
        bicubic_up(torch.zeros(3, 8, 8), 2)
    with pytest.raises(ValueError, match="at least 1"):
        bicubic_up(torch.zeros(1, 3, 8, 8), 0)
