"""Files whose headers claim more than the files hold."""

from __future__ import annotations

import struct

import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_read import encoded, raw_png

from irnscale.errors import InputError
from irnscale.images.read import read_header, read_picture


def test_a_few_bytes_that_claim_a_huge_picture():
    bomb = raw_png(0, 1, bytes(2500), 20_000, 20_000)
    with pytest.raises(InputError, match=r"claims 20000x20000 pixels in \d+ bytes.*max_pixels=400000000"):
        read_picture(bomb)
    assert read_header(bomb, max_pixels=4 * 10**8).width == 20_000
    blank = raw_png(0, 1, bytes(500), 4000, 4000)
    assert read_picture(blank).pixels.shape == (4000, 4000, 3)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_a_tiff_that_lacks_strips(options):
    data = encoded(Image.fromarray(synthetic_photo(12, 12)), "TIFF", **options)
    order = "<H" if data[:2] == b"II" else ">H"
    entry = data.index(struct.pack(order, 257))
    damaged = bytearray(data)
    struct.pack_into(order[0] + "I", damaged, entry + 8, 50_000)
    with pytest.raises(InputError, match=r"missing|truncated"):
        read_picture(bytes(damaged))
    assert read_picture(data).height == 12


def test_a_gain_map_behind_the_picture_is_told():
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    data = encoded(Image.fromarray(synthetic_photo(12, 12)), "JPEG", xmp=packet)
    (note,) = read_picture(data).notes
    assert "gain map" in note
