import io
import struct

import numpy as np
import pytest
from PIL import Image

from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_tags import check_tags, orientation
from ray_classy.errors import DataError


def tags(order, *entries, kind=7, size=100_000, offset=8):
    """A TIFF structure whose tags all take the same bytes."""
    sign = {"<": b"II*\0", ">": b"MM\0*"}[order]
    listed = b"".join(struct.pack(order + "HHII", tag, kind, size, 0) for tag in entries)
    return sign + struct.pack(order + "I", 8) + struct.pack(order + "H", len(entries)) + listed + bytes(4)


def jpeg(exif):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 6)).save(buffer, "JPEG", exif=b"Exif\0\0" + exif)
    return buffer.getvalue()


def encoded(kind, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 6)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("order", "<>")
def test_tags_that_share_their_bytes_are_refused(order):
    data = jpeg(tags(order, *range(1000, 6000)).ljust(65_000, b"x"))
    with pytest.raises(DataError, match=r"a\.jpg: tags \(EXIF\) of \d+,\d+,\d+ bytes in a file of"):
        decode_image(data, source="a.jpg")


def test_those_of_a_tiff_file_are_refused():
    with pytest.raises(DataError, match=r"tags \(EXIF\) of"):
        decode_image(tags("<", *range(1000, 41_000), size=10**6).ljust(2_000_000, b"x"))


def test_those_of_a_directory_below_the_first_are_refused():
    first = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 34665, 4, 1, 26, 0)
    below = tags("<", *range(1000, 41_000), size=10**6)[8:]
    with pytest.raises(DataError, match=r"tags \(EXIF\) of"):
        check_tags((first + below).ljust(2_000_000, b"x"), "TIFF")


def test_an_image_in_too_many_strips_is_refused():
    with pytest.raises(DataError, match="1,000,000 strips or tiles"):
        check_tags(tags("<", 273, kind=4, size=1_000_000), "TIFF")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_every_orientation_is_that_of_pillow(kind):
    from PIL import ImageOps

    pixels = np.arange(72, dtype=np.uint8).reshape(6, 4, 3)
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        buffer = io.BytesIO()
        try:
            Image.fromarray(pixels).save(buffer, kind, exif=exif)
        except (KeyError, OSError):
            pytest.skip(f"this Pillow writes no {kind}")
        wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
        assert np.array_equal(np.asarray(decode_image(buffer.getvalue())), np.asarray(wanted))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "code"), [(1, "B"), (3, "H"), (4, "I")])
def test_orientation(order, kind, code):
    value = struct.pack(order + code, 6).ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1)
    assert orientation({"exif": head + value}) == 6
    assert orientation({"exif": b"Exif\0\0" + head + value}) == 6
    text = "\nexif\n  30\n" + (head + value).hex()
    assert orientation({"Raw profile type exif": text}) == 6


@pytest.mark.parametrize("info", [{}, {"exif": b"junk"}, {"exif": b"II*\0"}, {"Raw profile type exif": "zz\n\n\nx"}])
def test_no_orientation(info):
    assert orientation(info) == 1


@pytest.mark.parametrize("xmp", [b'<x tiff:Orientation="3"/>', "<tiff:Orientation>3</tiff:Orientation>"])
def test_orientation_in_xmp(xmp):
    assert orientation({"xmp": xmp}) == 3
