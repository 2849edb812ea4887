import io

import pytest
from PIL import Image, features

from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_formats import IMAGE_EXTENSIONS, image_format, is_heic, is_image_name
from ray_classy.errors import DataError

PICTURE = Image.effect_noise((40, 30), 50)


def encoded(kind, mode="L"):
    buffer = io.BytesIO()
    PICTURE.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def needs(kind, feature):
    return pytest.param(kind, marks=pytest.mark.skipif(not has(feature), reason=f"this Pillow has no {kind}"))


def has(feature):
    try:
        return features.check(feature)
    except ValueError:
        return False


OPEN = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", needs("AVIF", "avif")]
CLOSED = ["EPS", "ICO", "ICNS", "IM", "MSP", "PCX", "SGI", "SPIDER", "TGA", "XBM", "DDS", "BLP", "DIB"]


@pytest.mark.parametrize("kind", OPEN)
def test_formats_that_are_read(kind):
    assert decode_image(encoded(kind), "L").size == (40, 30)


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
def test_all_other_formats_of_pillow_are_closed(kind):
    data = encoded(kind, {"BLP": "P", "SPIDER": "F", "MSP": "1", "XBM": "1", "DDS": "RGB"}.get(kind, "L"))
    assert image_format(data[:16]) is None
    with pytest.raises(DataError, match=r"not an image in a known format .*; the formats are JPEG, PNG"):
        decode_image(data)


@pytest.mark.parametrize(
    "start",
    [
        b"SIMPLE  =                    T",  # FITS
        b"8BPS\0\1",  # PSD
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"GRIB\0\0\0\1",
        b"\x89HDF\r\n\x1a\n",
        b"/* XPM */",
        b"\0\0\1\xba",  # MPEG
        b"\xd7\xcd\xc6\x9a\0\0",  # WMF
        b"qoif",
        b"Pf\n",  # PFM
        b"",
    ],
)
def test_signatures_that_open_no_decoder(start):
    assert image_format(start) is None


@pytest.mark.parametrize("brands", [(b"heic", b"mif1"), (b"mif1", b"heic"), (b"heix", b"mif1"), (b"msf1", b"hevc")])
def test_a_heic_image_is_named(brands):
    data = b"\0\0\0\x18ftyp" + brands[0] + bytes(4) + brands[0] + brands[1] + bytes(100)
    with pytest.raises(DataError, match=r"^x: a HEIC image, .*convert it to JPEG \(heif-convert"):
        decode_image(data, source="x")


def test_an_avif_image_of_the_general_brand_is_no_heic():
    assert not is_heic(b"\0\0\0\x18ftypmif1" + bytes(4) + b"mif1avif") and not is_heic(b"") and not is_heic(b"\0" * 20)


def test_image_names():
    for name in ("a.jpg", "a.JPEG", "a.jpe", "a.jfif", "a.png", "a.pgm", "a.pbm", "a.pnm", "a.ppm", "a.bmp", "a.gif"):
        assert is_image_name(name)
    for name in ("a.tif", "a.tiff", "a.webp", "a.avif", "a.jp2", "b.cls/a.Jp2"):
        assert is_image_name(name)
    for name in ("a.txt", "a.fits", "a.eps", "a.psd", "a.pfm", "a.heic", "a.dib", "a.npy", "jpg", "a"):
        assert not is_image_name(name)


def test_extensions_are_lower_case_with_a_dot():
    assert all(one == one.lower() and one.startswith(".") for one in IMAGE_EXTENSIONS)
    assert len(set(IMAGE_EXTENSIONS)) == len(IMAGE_EXTENSIONS)
