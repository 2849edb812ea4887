import io
import warnings

import numpy as np
import pytest
from PIL import Image

from ray_classy.dataset.decode import decode_image
from ray_classy.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_bytes():
    image = decode_image(encoded(Image.fromarray(PIXELS)))
    assert image.mode == "RGB" and np.array_equal(np.asarray(image), PIXELS)


def test_path(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(decode_image(tmp_path / "a.png")), PIXELS)


def test_url(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(decode_image(f"file://{tmp_path}/a.png")), PIXELS)


def test_url_of_fsspec():
    import fsspec

    with fsspec.open("memory://decode/a.png", "wb") as file:
        file.write(encoded(Image.fromarray(PIXELS)))
    assert np.array_equal(np.asarray(decode_image("memory://decode/a.png")), PIXELS)


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = decode_image(encoded(Image.fromarray(PIXELS), exif=exif))
    assert np.array_equal(np.asarray(image), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("wanted", ["RGB", "L"])
def test_every_mode_is_converted(mode, wanted):
    image = Image.fromarray(PIXELS).convert(mode)
    data = encoded(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    assert decode_image(data, wanted).mode == wanted


def test_transparency_is_dropped():
    image = Image.new("RGBA", (2, 2), (200, 100, 50, 0))
    assert decode_image(encoded(image)).getpixel((0, 0)) == (200, 100, 50)


def test_transparent_palette_does_not_warn():
    image = Image.new("P", (2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_image(encoded(image, transparency=b"\x00\x80"))


def test_16_bits_are_scaled_to_8():
    image = Image.fromarray(np.array([[0, 255, 256, 65535]], dtype=np.uint16))
    assert list(np.asarray(decode_image(encoded(image), "L"))[0]) == [0, 0, 1, 255]


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (encoded(Image.new("RGB", (64, 64)), "JPEG")[:300], "truncated"),
        (encoded(Image.fromarray(PIXELS))[:60], "truncated"),
    ],
)
def test_damaged_bytes_name_their_source(data, message):
    with pytest.raises(DataError, match=f"row 7: .*{message}"):
        decode_image(data, source="row 7")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*a\.png"):
        decode_image(tmp_path / "a.png")


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        decode_image(tmp_path)


def test_decompression_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="MAX_IMAGE_PIXELS"):
        decode_image(encoded(Image.fromarray(PIXELS)))


def test_floating_point_pixels_are_refused():
    with pytest.raises(DataError, match="floating-point"):
        decode_image(encoded(Image.new("F", (2, 2)), "TIFF"))


def test_postscript_is_never_run():
    with pytest.raises(DataError, match="not an image"):
        decode_image(encoded(Image.fromarray(PIXELS), "EPS"))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1), (6, 4, 3), (6, 4, 4)])
def test_array(shape):
    image = decode_image(np.zeros(shape, np.uint8))
    assert image.size == (4, 6) and image.mode == "RGB"


def test_nested_lists():
    assert np.array_equal(np.asarray(decode_image(PIXELS.tolist())), PIXELS)


def test_array_of_arrays():
    rows = np.empty(6, dtype=object)
    rows[:] = [np.array(row) for row in PIXELS[:, :, 0]]
    assert np.array_equal(np.asarray(decode_image(rows, "L")), PIXELS[:, :, 0])


@pytest.mark.parametrize(
    "data",
    [
        None,
        np.zeros((2, 2), np.float32),
        np.full((2, 2), 256),
        np.full((2, 2), -1),
        np.zeros(4, np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 2), np.uint8),
        [[1, 2], [3]],
    ],
)
def test_other_arrays_are_refused(data):
    with pytest.raises(DataError, match="row 3"):
        decode_image(data, source="row 3")
