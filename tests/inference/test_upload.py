"""An image in the body of a request, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from ray_classy.inference.preprocessing import Preprocessing
from ray_classy.inference.upload import RefusedRequest, UploadLimits, decode_upload, image_bytes, topk_of

HOW = Preprocessing(lambda sample: sample)
LIMITS = UploadLimits(1000, 400)
FORM = "multipart/form-data; boundary=b-1"


def encoded(side, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(file, form)
    return file.getvalue()


def form(*fields):
    """A form of fields: a file name, or None, and the content."""
    parts = []
    for name, content in fields:
        disposition = b'form-data; name="image"' + (b"" if name is None else b'; filename="%s"' % name)
        parts.append(b"--b-1\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + b"--b-1--\r\n"


def refused(status, message, function, *arguments):
    with pytest.raises(RefusedRequest, match=message) as raised:
        function(*arguments)
    assert raised.value.status == status


@pytest.mark.parametrize("kind", ["", "image/png", "application/x-www-form-urlencoded", "nonsense"])
def test_a_body_is_the_image(kind):
    assert image_bytes(kind, b"abc") == b"abc"


def test_the_file_of_a_form_is_the_image():
    data = encoded(10) + b"\r\n--b\r\n\r\n"
    assert image_bytes(FORM, form((None, b"text"), (b"a.png", data))) == data
    assert image_bytes('multipart/form-data; boundary="b-1"', form((b"", b"\0\n"))) == b"\0\n"


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("image/png", b"", "no image"),
        (FORM, b"", "cut off"),
        (FORM, form((b"a", b"1"))[:-4], "cut off"),
        (FORM, form((None, b"1")), "0 files"),
        (FORM, form((b"a", b"1"), (b"b", b"2")), "2 files"),
        (FORM, form(*[(b"a", b"1")] * 30), "more than 20 fields"),
        (FORM, form((b"a", b"")), "no image"),
        ("multipart/form-data", form((b"a", b"1")), "no valid boundary"),
    ],
)
def test_a_body_without_one_image_is_refused(kind, body, message):
    refused(400, message, image_bytes, kind, body)


def test_an_image_is_decoded():
    assert decode_upload(encoded(20), HOW, LIMITS).size == (20, 20)


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"hello", 415, "not an image in a known format: JPEG"),
        (b"\0\0\0\x18ftypheic" + bytes(20), 415, "HEIC"),
        (encoded(21), 413, "more than 400 pixels"),
        (encoded(20)[:50], 400, "damaged or truncated"),
    ],
)
def test_what_is_no_image_that_can_be_decoded_is_refused(data, status, message):
    refused(status, message, decode_upload, data, HOW, LIMITS)


def test_a_large_body_is_refused():
    LIMITS.check_bytes(1000)
    refused(413, "larger than", LIMITS.check_bytes, 1001)


def test_a_query_may_ask_for_a_number_of_classes():
    assert topk_of({}, 5) == 5 and topk_of({"topk": "3"}, 5) == 3
    for wrong in ("0", "-1", "a", "1e3", "9" * 30):
        refused(400, "at least 1", topk_of, {"topk": wrong}, 5)
