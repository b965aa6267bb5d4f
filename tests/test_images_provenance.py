"""Records: round trips through every format, other programs' handling, and hostile content."""

import dataclasses
import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from irnscale.errors import InputError
from irnscale.images.picture import Picture, pixel_crc
from irnscale.images.provenance import read_provenance
from irnscale.images.read import read_picture
from irnscale.images.record import Provenance
from irnscale.images.write import FORMATS, encode_picture
from irnscale.images.xmp import NAMESPACE, record_in_xmp, upright_xmp, xmp_with_record

RECORD = Provenance(
    kind="down",
    version="0.1.0",
    model="irn-x4",
    digest="0123456789ab",
    scale=4,
    width=17,
    height=10,
    lr_width=5,
    lr_height=3,
    padding=(3, 2),
    jpeg_resistant=False,
    original_format="png",
    source_digest="a" * 64,
    settings_digest="b" * 16,
    crc=2**32 - 1,
    opaque_alpha=False,
    gray=True,
)
FOREIGN = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg"'
    b' xmlns:odd="http://example.invalid/odd/" odd:word="K&#228;se &amp; &lt;Brot&gt;"/>'
    b"</rdf:RDF></x:xmpmeta>   \n\n  <?xpacket end='w'?>"
)


def picture(**changes):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    base = Picture(pixels, None, False, False, 8, None, None, None, "png", "0" * 64)
    return dataclasses.replace(base, **changes)


def test_json_round_trip():
    assert Provenance.from_json(RECORD.to_json()) == RECORD
    assert "\n" not in RECORD.to_json()


def test_unknown_keys_are_ignored():
    data = json.loads(RECORD.to_json()) | {"colour": "mauve"}
    assert Provenance.from_json(json.dumps(data)) == RECORD


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("xmp", [None, FOREIGN, b"<broken", b"\xff\xfe\0"])
def test_record_round_trip(format, xmp, tmp_path):
    data = encode_picture(picture(xmp=xmp if format != "png" else None), format, record=RECORD)
    path = tmp_path / "no-extension"
    path.write_bytes(data)
    assert read_provenance(data) == read_provenance(path) == RECORD
    back = read_picture(data)
    assert back.record == RECORD
    assert back.notes == ()
    assert NAMESPACE.encode() not in (back.xmp or b"")


@pytest.mark.parametrize("format", FORMATS)
def test_old_record_is_not_carried_on(format):
    first = read_picture(encode_picture(picture(xmp=FOREIGN), format, record=RECORD))
    for target in FORMATS:
        data = encode_picture(first, target)
        assert read_provenance(data) is None
        assert b"irnscale" not in data
        other = dataclasses.replace(RECORD, kind="up")
        assert read_provenance(encode_picture(first, target, record=other)) == other


@pytest.mark.parametrize("target", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_record_survives_pillow_where_xmp_is_passed(target):
    image = Image.open(io.BytesIO(encode_picture(picture(xmp=FOREIGN), "jpg", record=RECORD)))
    options = {"xmp": image.info["xmp"]}
    if target == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", image.info["xmp"].decode(), zip=True)
    if target == "TIFF":
        options["tiffinfo"] = {700: image.info["xmp"]}
    file = io.BytesIO()
    image.save(file, target, **options)
    assert read_provenance(file.getvalue()) == RECORD


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_text_behind_the_pixels_is_found(kind):
    text = RECORD.to_json().encode()
    body = {b"tEXt": text, b"zTXt": b"\0" + zlib.compress(text), b"iTXt": b"\0\0\0\0" + text}[kind]
    plain = encode_picture(picture(), "png")
    data = plain[:-12] + chunk(kind, b"irnscale\0" + body) + plain[-12:]
    assert read_provenance(data) == RECORD
    assert read_picture(data).record == RECORD


def with_text(text):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("irnscale", text)
    file = io.BytesIO()
    Image.new("RGB", (5, 3)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


HOSTILE = {
    "empty": "",
    "not json": "{",
    "list": "[]",
    "number": "1",
    "deep": "[" * 10000,
    "huge number": "9" * 10000,
    "nan": RECORD.to_json().replace(":17,", ":NaN,"),
    "oversized": RECORD.to_json()[:-1] + ',"x":"' + "y" * 17000 + '"}',
    "newer": RECORD.to_json().replace('"schema":1', '"schema":2'),
    "surrogate": RECORD.to_json().replace("irn-x4", "\\ud800"),
    "escape codes": RECORD.to_json().replace("irn-x4", "\\u001b[2J"),
    "newline": RECORD.to_json().replace("0.1.0", "0.1.0\\n"),
    "right-to-left": RECORD.to_json().replace("irn-x4", "\\u202e4x"),
}
WRONG = [
    *(("kind", v) for v in ("side", "", 1, None)),
    *(("scale", v) for v in (0, 1, 5, -4, 2.0, 4.0, True, "4", 2**70)),
    *(("width", v) for v in (0, -17, 17.0, 21, 16, 2**31 + 1, None)),
    *(("lr_height", v) for v in (0, 4, 2, True)),
    *(("padding", v) for v in ([3], [3, 2, 0], [2, 3], [3.0, 2], "32", None, [True, 2], {"0": 3})),
    *(("jpeg_resistant", v) for v in (0, 1, "true", None)),
    *(("digest", v) for v in ("", "xyz", "0123456789AB", "0123456789abc", 5)),
    *(("source_digest", v) for v in ("a" * 63, "../../etc/passwd")),
    *(("crc", v) for v in (-1, 2**32, 1.5, False)),
    *(("original_format", v) for v in ("", "PNG", "../x", "a" * 17)),
    *(("model", v) for v in ("", "x" * 201, ["irn"])),
]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_count_as_absent(text):
    with pytest.raises(ValueError, match=r"."):
        Provenance.from_json(text)
    if "\\ud800" not in text:
        data = with_text(text)
        assert read_provenance(data) is None
        (note,) = read_picture(data).notes
        assert "record" in note
        assert "\n" not in note


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_fields_are_refused_both_ways(name, value):
    data = json.loads(RECORD.to_json()) | {name: value}
    with pytest.raises(ValueError, match=r"."):
        Provenance.from_json(json.dumps(data))
    with pytest.raises(ValueError, match=r"."):
        dataclasses.replace(RECORD, **{name: value}).to_json()


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Provenance) if field.default is dataclasses.MISSING]
)
def test_missing_fields_are_refused(name):
    data = json.loads(RECORD.to_json())
    del data[name]
    with pytest.raises(ValueError, match=name):
        Provenance.from_json(json.dumps(data))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=5), PLAIN, max_size=2)
NAMES = st.sampled_from([field.name for field in dataclasses.fields(Provenance)])


@given(NAMES, JSON, NAMES, JSON)
def test_mutated_records_are_refused_or_sound(name, value, other, another):
    data = json.loads(RECORD.to_json()) | {name: value, other: another}
    try:
        record = Provenance.from_json(json.dumps(data))
    except ValueError:
        return
    assert record.lr_width == -(-record.width // record.scale)
    assert Provenance.from_json(record.to_json()) == record


@given(st.integers(0, 400), st.integers(0, 400), st.text(max_size=5))
def test_mutilated_texts_raise_only_value_error(start, length, filling):
    text = RECORD.to_json()
    try:
        Provenance.from_json(text[:start] + filling + text[start + length :])
    except ValueError:
        return


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;https://irnscale.invalid/ns/1.0/</x>',
        b"<x>https://irnscale.invalid/ns/1.0/</x>",
        b"https://irnscale.invalid/ns/1.0/",
        b"<a>" * 5000 + b"https://irnscale.invalid/ns/1.0/",
    ],
)
def test_hostile_packets(packet):
    assert record_in_xmp(packet) is None
    assert record_in_xmp(xmp_with_record(packet, RECORD.to_json())) == RECORD.to_json()
    with pytest.raises(ValueError, match="XMP"):
        upright_xmp(packet)


def test_packet_keeps_what_others_wrote():
    merged = xmp_with_record(FOREIGN, RECORD.to_json())
    assert "Käse &amp; &lt;Brot&gt;" in merged.decode()
    assert b'rdf:about="uuid:1"' in merged[merged.index(b"irnscale") - 200 :]
    again = xmp_with_record(merged, '{"new":1}')
    assert record_in_xmp(again) == '{"new":1}'
    assert again.count(b"<irnscale:record") == 1
    assert again.count(b"<rdf:Description") == 2
    cleaned = upright_xmp(merged)
    assert cleaned is not None
    assert b"irnscale" not in cleaned
    assert "Käse".encode() in cleaned


def test_record_as_attribute_is_read():
    text = RECORD.to_json().replace('"', "&quot;")
    attribute = f'xmlns:i="{NAMESPACE}" i:record="{text}" odd:word'.encode()
    assert record_in_xmp(FOREIGN.replace(b"odd:word", attribute)) == RECORD.to_json()


def test_read_provenance_of_what_is_no_picture(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("dear diary")
    assert read_provenance(path) is None
    assert read_provenance(b"") is None
    with pytest.raises(InputError, match="no such file"):
        read_provenance(tmp_path / "missing.png")


def test_read_provenance_does_not_decode(monkeypatch):
    from PIL import ImageFile

    files = [encode_picture(picture(), format, record=RECORD) for format in FORMATS]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert [read_provenance(data) for data in files] == [RECORD] * len(FORMATS)


def test_pixel_crc_covers_pixels_and_alpha():
    plain = picture()
    assert pixel_crc(plain) == zlib.crc32(plain.pixels.tobytes())
    alpha = np.full((6, 9), 7, np.uint8)
    assert pixel_crc(picture(alpha=alpha)) == zlib.crc32(plain.pixels.tobytes() + alpha.tobytes())
    back = read_picture(encode_picture(picture(alpha=alpha), "webp"))
    assert pixel_crc(back) == pixel_crc(picture(alpha=alpha))
