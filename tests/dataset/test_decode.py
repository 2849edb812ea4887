import contextlib
import io
import os
import resource
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torchvision import tv_tensors

from ray_classy.dataset import decode, image_limits
from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_limits import most_pixels
from ray_classy.dataset.image_options import MAX_PIXELS, ImageOptions
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


def encoded_before(kind):
    """Encodes an image with Pillow's limits out of the way."""
    return encoded(Image.fromarray(PIXELS), kind)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_exif_rotation_is_applied():
    image = decode_image(encoded(Image.fromarray(PIXELS), exif=orientation(6)))  # by 90 degrees clockwise
    assert np.array_equal(np.asarray(image), np.rot90(PIXELS, -1))


def reads_ycbcr_tiff():
    try:
        Image.open(io.BytesIO(encoded(Image.new("YCbCr", (4, 4)), "TIFF"))).load()
    except OSError:
        return False
    return True


needs_ycbcr_tiff = pytest.mark.skipif(
    not reads_ycbcr_tiff(), reason="Pillow before 13 takes TIFF files in YCbCr for truncated: docs/versions.md"
)
YCBCR = pytest.param("YCbCr", marks=needs_ycbcr_tiff)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", YCBCR])
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


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, colours, depth, content):
    """A PNG file made by hand: colours is 0 for grey and 2 for RGB."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_takes_memory():
    data = png(20_000, 20_000, 0, 1, bytes(2501 * 20_000))
    assert len(data) < 60_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        DataError,
        match=r"a\.png: too large: 20000 x 20000 pixels, and at most 89,478,485 are decoded; .*raise max_pixels",
    ):
        decode_image(data, source="a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB; decoded it takes 400 MB


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "WEBP"])
def test_a_limit_above_that_of_pillow_is_raised_there_too(monkeypatch, kind):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    data = encoded_before(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(data, options=ImageOptions(max_pixels=24)).size == (4, 6)
    with pytest.raises(DataError, match="too large: 4 x 6 pixels, and at most 23 are decoded"):
        decode_image(data, options=ImageOptions(max_pixels=23))
    with pytest.raises(DataError, match="too large: 4 x 6 pixels, and at most 23 are decoded"):
        decode_image(PIXELS, options=ImageOptions(max_pixels=23))


def test_large_images_are_decoded_one_after_the_other(monkeypatch):
    held = []
    monkeypatch.setattr(decode, "_ORDINARY_BYTES", 24 * 8 - 1)
    monkeypatch.setattr(decode._decoding, "hold", lambda count: held.append(count) or contextlib.nullcontext())
    decode_image(encoded(Image.fromarray(PIXELS)))
    assert held == [24 * 8]


def test_ordinary_photos_are_decoded_at_once(monkeypatch):
    monkeypatch.setattr(decode._decoding, "hold", lambda count: pytest.fail("it waits"))
    photo = encoded(Image.new("RGB", (6000, 4000)), "JPEG")
    assert decode_image(photo, as_tensor=True).shape == (3, 4000, 6000)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_no_pixels(size):
    with pytest.raises(DataError, match=r"a\.png: no pixels|a\.png: not an image"):
        decode_image(png(*size, 0, 8, b""), source="a.png")


def test_a_folder_with_the_name_of_an_image(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(DataError, match=r"x\.png' is a folder, not a file"):
        decode_image(tmp_path / "x.png")


def test_a_pipe_with_the_name_of_an_image_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png' is not a file but a pipe or device"):
        decode_image(tmp_path / "x.png")


def test_an_endless_file_is_refused():
    with pytest.raises(DataError, match="'/dev/zero' is not a file but a pipe or device"):
        decode_image("/dev/zero")


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", 20)
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(PIXELS)))
    for path in (f"{tmp_path}/a.png", f"file://{tmp_path}/a.png"):
        with pytest.raises(DataError, match=r"a\.png' is too large: it has more than 20 bytes"):
            decode_image(path)


def test_a_tile_larger_than_its_image_is_refused():
    tags = {256: 4, 257: 6, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 150, 325: 9}
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + bytes(100)
    with pytest.raises(DataError, match="too large: 60000 x 60000 pixels"):
        decode_image(data)


def test_a_progressive_jpeg_of_thousands_of_scans_is_refused():
    data = encoded(LARGER, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(DataError, match=r"2,0\d\d scans; at most 500 are decoded"):
        decode_image(data[:last] + data[last:-2] * 2000 + data[-2:])


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(8, 1 << 20, "too large: 1048576 x 40 pixels"), (24, 1, r"1,200 tiles|tiles"), (24, 0, "tiles without pixels")],
)
def test_sizes_in_a_jpeg_2000_stream_are_checked(at, value, message, monkeypatch):
    monkeypatch.setattr(image_limits, "_MOST_TILES", 29)
    data = bytearray(encoded(LARGER, "JPEG2000"))
    struct.pack_into(">I", data, data.index(b"\xff\x4f\xff\x51") + at, value)
    with pytest.raises(DataError, match=message):
        decode_image(bytes(data), options=ImageOptions(max_pixels=10_000))


def test_floating_point_pixels_are_refused():
    with pytest.raises(DataError, match="floating-point"):
        decode_image(encoded(Image.new("F", (2, 2)), "TIFF"))


@pytest.mark.parametrize(("value_range", "wanted"), [([0, 1], [0, 128, 255, 255, 0]), ("image", [0, 64, 128, 255, 0])])
def test_floating_point_pixels_are_scaled_from_a_range(value_range, wanted):
    data = encoded(Image.fromarray(np.array([[0, 0.5, 1, 2, np.nan]], np.float32)), "TIFF")
    pixels = np.asarray(decode_image(data, "L", options=ImageOptions(value_range=value_range)))
    assert pixels.tolist() == [wanted]


@pytest.mark.parametrize(
    ("value_range", "wanted"), [(None, [0, 4, 15, 255]), ([0, 4095], [0, 64, 255, 255]), ("image", [0, 4, 16, 255])]
)
def test_16_bits_are_scaled_from_a_range(value_range, wanted):
    image = Image.fromarray(np.array([[0, 1024, 4095, 65535]], np.uint16))
    for data in (encoded(image), encoded(image, "TIFF")):
        assert np.asarray(decode_image(data, "L", options=ImageOptions(value_range=value_range))).tolist() == [wanted]


def test_arrays_are_scaled_from_a_range():
    options = ImageOptions(value_range=[0, 1000])
    assert np.asarray(decode_image(np.array([[0, 500, 1000]]), "L", options=options)).tolist() == [[0, 128, 255]]


def test_an_image_of_one_value_is_black():
    image = Image.fromarray(np.full((2, 2), 700, np.uint16))
    assert decode_image(encoded(image), "L", options=ImageOptions(value_range="image")).getextrema() == (0, 0)


TRANSPARENT = [
    ("RGBA", {}, (200, 100, 50, 0)),
    ("LA", {}, (200, 0)),
    ("RGB", {"transparency": (200, 100, 50)}, (200, 100, 50)),
    ("L", {"transparency": 200}, 200),
]


@pytest.mark.parametrize(("mode", "options", "colour"), TRANSPARENT)
@pytest.mark.parametrize("background", ["#ffff00", "yellow", [255, 255, 0]])
def test_a_background_shows_through_transparent_pixels(mode, options, colour, background):
    data = encoded(Image.new(mode, (2, 2), colour), **options)
    chosen = ImageOptions(background=background)
    assert decode_image(data, options=chosen).getpixel((0, 0)) == (255, 255, 0)
    assert decode_image(data, as_tensor=True, options=chosen)[:, 0, 0].tolist() == [255, 255, 0]
    assert decode_image(data, "L", options=chosen).getpixel((0, 0)) == 226


def test_a_background_shows_through_a_palette():
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    data = encoded(image, transparency=0)
    pixels = np.asarray(decode_image(data, options=ImageOptions(background="yellow")))
    assert pixels.tolist() == [[[255, 255, 0], [1, 1, 1]]]


def test_a_background_leaves_opaque_images_alone():
    data = encoded(Image.fromarray(PIXELS))
    assert np.array_equal(np.asarray(decode_image(data, options=ImageOptions(background="red"))), PIXELS)


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


LARGER = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8))
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"]
"""All that are promised."""


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(encoded(LARGER, kind, **options))
    assert image.mode == "RGB" and image.size == (30, 40)
    if kind not in ("JPEG", "GIF"):
        assert image.tobytes() == LARGER.tobytes()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [4, 8, 20, 40, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")  # PIL's, before it fails
def test_cut_in_the_header_or_in_the_data(kind, kept):
    data = encoded(LARGER, kind)
    with pytest.raises(DataError, match=r"a\.jpg: (not an image in a known format|damaged or truncated image) \("):
        decode_image(data[: int(kept * len(data)) if kept < 1 else kept], source="a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_overwritten_in_the_middle(kind):
    data = bytearray(encoded(LARGER, kind))
    data[len(data) // 3 : 2 * len(data) // 3] = b"\xff\xd8" * (len(data) // 3 // 2)
    with pytest.raises(DataError, match=r"a\.jpg: (not an image|damaged|too large)"):
        decode_image(bytes(data), source="a.jpg")


@pytest.mark.parametrize(
    "content", [b"<html>404 Not Found</html>", b"version https://git-lfs...", b"\0" * 999, b"x" * 9]
)
def test_bytes_that_are_not_an_image_are_shown(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg: not an image in a known format \(\d+ bytes that begin with b'"):
        decode_image(tmp_path / "a.jpg")


def test_the_extension_does_not_matter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(LARGER, "PNG"))
    assert decode_image(tmp_path / "a.jpg").tobytes() == LARGER.tobytes()


MODES = [
    *[(mode, "TIFF") for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "I", "I;16")],
    pytest.param("YCbCr", "TIFF", marks=needs_ycbcr_tiff),
    *[(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    *[(mode, "JPEG") for mode in ("L", "RGB", "CMYK", "YCbCr")],
    *[(mode, "WEBP") for mode in ("L", "RGB", "RGBA")],
    *[(mode, "GIF") for mode in ("1", "L", "P", "RGBA")],
]


@pytest.mark.parametrize(("mode", "kind"), MODES)
def test_every_mode_of_every_format(mode, kind):
    source = LARGER.convert("L").convert(mode) if mode == "I;16" else LARGER.convert(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for wanted in ("RGB", "L"):
            image = decode_image(encoded(source, kind), wanted)
            assert image.mode == wanted and image.size == (30, 40)


def test_16_bits_per_channel():
    values = (PIXELS[:, :2].astype(">u2") * 256 + 77).astype(">u2").reshape(6, 6)
    content = b"".join(b"\0" + row.tobytes() for row in values)
    image = decode_image(png(2, 6, 2, 16, content))
    assert np.array_equal(np.asarray(image), PIXELS[:, :2])


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames(kind):
    other = LARGER.transpose(Image.Transpose.ROTATE_180)
    data = encoded(LARGER, kind, save_all=True, append_images=[other], **({"lossless": True} if kind == "WEBP" else {}))
    assert decode_image(data).tobytes() == LARGER.tobytes()


@pytest.mark.parametrize("kind", FORMATS)
def test_one_pixel(kind):
    assert decode_image(encoded(Image.new("RGB", (1, 1), "white"), kind)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("value", range(10))
def test_orientations_that_there_are_and_that_there_are_not(value):
    size = decode_image(encoded(LARGER, "JPEG", exif=orientation(value))).size
    assert size == ((40, 30) if value in (5, 6, 7, 8) else (30, 40))


@pytest.mark.parametrize("exif", [b"junk", b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"x" * 65_000])
@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
def test_senseless_exif_data_are_passed_over(exif):
    assert decode_image(encoded(LARGER, "JPEG", exif=b"Exif\0\0" + exif)).size == (30, 40)


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"junk" * 9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colour_profiles_are_not_applied(profile, kind):
    images = [decode_image(encoded(LARGER, kind, **options)) for options in ({"icc_profile": profile}, {})]
    assert images[0].tobytes() == images[1].tobytes()


def test_a_text_chunk_that_unpacks_to_much_is_refused():
    data = encoded(LARGER)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000)))
    with pytest.raises(DataError, match=r"(?i)decompressed data too large"):
        decode_image(data[:33] + text + data[33:])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30},
        {"progressive": True},
        {"subsampling": 0},
        {"subsampling": 1},
        {"optimize": True, "restart_marker_blocks": 2},
        {"exif": orientation(6)},
        {"exif": orientation(1)},
        {"comment": b"a comment"},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(30, 40), (1, 1), (129, 67)])
def test_a_tensor_has_the_pixels_of_the_image(options, mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    data = encoded(Image.fromarray(pixels).convert(mode), "JPEG", **options)
    tensor = decode_image(data, as_tensor=True)
    assert tensor.dtype == torch.uint8 and isinstance(tensor, tv_tensors.Image)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), np.asarray(decode_image(data)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF"])
def test_a_tensor_of_every_format(kind):
    data = encoded(LARGER, kind)
    assert np.array_equal(decode_image(data, as_tensor=True).permute(1, 2, 0).numpy(), np.asarray(decode_image(data)))


def test_a_tensor_of_an_array():
    assert np.array_equal(decode_image(PIXELS, as_tensor=True).permute(1, 2, 0).numpy(), PIXELS)


def test_a_grey_tensor():
    assert decode_image(encoded(LARGER, "JPEG"), "L", as_tensor=True).shape == (1, *reversed(LARGER.size))


@pytest.mark.parametrize("kept", [0.9, 0.3])
def test_a_truncated_jpeg_is_not_decoded(kept):
    data = encoded(LARGER, "JPEG")
    with pytest.raises(DataError, match=r"a.jpg: damaged or truncated image"):
        decode_image(data[: int(kept * len(data))], source="a.jpg", as_tensor=True)


def test_a_tensor_is_made_without_torchvisions_decoder_too(monkeypatch):
    monkeypatch.setattr(decode, "_jpeg_decoder", lambda: None)
    data = encoded(LARGER, "JPEG")
    assert np.array_equal(decode_image(data, as_tensor=True).permute(1, 2, 0).numpy(), np.asarray(decode_image(data)))


def test_most_jpegs_become_tensors_without_a_pil_image(monkeypatch):
    data = encoded(LARGER, "JPEG")
    monkeypatch.setattr(Image.Image, "load", None)
    assert decode_image(data, as_tensor=True).shape == (3, *reversed(LARGER.size))


@pytest.mark.parametrize(
    ("kind", "most"), [("JPEG", MAX_PIXELS), ("JPEG2000", 1 << 25), ("WEBP", 39_768_215), ("AVIF", 44_739_242)]
)
def test_formats_whose_decoders_take_more_memory_have_fewer_pixels(kind, most):
    assert most_pixels(kind, MAX_PIXELS) == most > 24_000_000


@pytest.mark.parametrize("kind", ["JPEG2000", "WEBP", "AVIF"])
def test_a_limit_below_33_megapixels_is_that_of_all_formats(kind):
    assert most_pixels(kind, 1000) == 1000 and most_pixels(kind, 1 << 25) == 1 << 25


def test_a_large_webp_is_refused_by_its_header():
    with pytest.raises(DataError, match="too large: 8000 x 8000 pixels, and at most 39,768,215 are decoded"):
        decode_image(encoded(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0, quality=0))
