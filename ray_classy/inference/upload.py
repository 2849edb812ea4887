"""An image that is uploaded over HTTP: how it is found in the body of a request, and which ones are refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_formats import SIGNATURE_BYTES, formats_read, image_format, is_heic
from ray_classy.errors import DataError, ImageTooLargeError, RayClassyError
from ray_classy.inference.preprocessing import Preprocessing

BAD_REQUEST, TOO_LARGE, UNSUPPORTED = 400, 413, 415
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")
"""RFC 2046, section 5.1.1."""
_MOST_PARTS = 20


class RefusedRequest(RayClassyError):
    """A request that gets no prediction.

    Args:
        status: of the answer, 400 to 499.
        message: what is wrong.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> Any:
        return type(self), (self.status, str(self))


@dataclass(frozen=True)
class UploadLimits:
    """What is accepted.

    Attributes:
        most_bytes: of a body.
        most_pixels: of an image.
    """

    most_bytes: int
    most_pixels: int

    def check_bytes(self, count: int) -> None:
        """Checks the size of a body, or of what has been read of it.

        Raises:
            RefusedRequest: (413) it is over the limit.
        """
        if count > self.most_bytes:
            raise RefusedRequest(TOO_LARGE, f"the upload is larger than {self.most_bytes / 2**20:g} MiB")


def image_bytes(content_type: str, body: bytes) -> bytes:
    """Returns the encoded image in the body of a request.

    Args:
        content_type: of the request: of `multipart/form-data`, the one file is taken, and otherwise the body as it is.
        body: of the request.

    Raises:
        RefusedRequest: (400) there is none.
    """
    header = Message()
    header["content-type"] = content_type
    data = body
    if header.get_content_type() == "multipart/form-data":
        data = _file_in(body, str(header.get_param("boundary", "")))
    if not data:
        raise RefusedRequest(BAD_REQUEST, "the request has no image: send its bytes as the body, or a form with a file")
    return data


def _file_in(body: bytes, boundary: str) -> bytes:
    """The one file in a form (RFC 7578)."""
    if not _BOUNDARY.fullmatch(boundary):
        raise RefusedRequest(BAD_REQUEST, "the form has no valid boundary")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), _MOST_PARTS + 2)
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise RefusedRequest(BAD_REQUEST, f"the form is cut off, or has more than {_MOST_PARTS} fields")
    files = []
    for part in parts[1:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        if separator and re.search(rb"(?i)content-disposition:[^\r\n]*;\s*filename\*?=", head):
            files.append(content)
    if len(files) != 1:
        raise RefusedRequest(BAD_REQUEST, f"the form has {len(files)} files, and one image is expected")
    return files[0]


def decode_upload(data: bytes, preprocessing: Preprocessing, limits: UploadLimits) -> Any:
    """Decodes an uploaded image as a PIL image.

    Raises:
        RefusedRequest: (415) it is no image in a format that is decoded, (413) it has too many pixels, or (400) it is
            damaged.
    """
    if image_format(data[:SIGNATURE_BYTES]) is None and not is_heic(data):
        raise RefusedRequest(UNSUPPORTED, f"this is not an image in a known format: {formats_read()}")
    most = min(limits.most_pixels, preprocessing.options.max_pixels)
    options = dataclasses.replace(preprocessing.options, max_pixels=most)
    try:
        return decode_image(data, preprocessing.mode, "the image", options=options)
    except ImageTooLargeError as error:
        raise RefusedRequest(TOO_LARGE, f"the image has more than {most:,} pixels") from error
    except DataError as error:
        raise RefusedRequest(UNSUPPORTED if is_heic(data) else BAD_REQUEST, str(error)) from error


def topk_of(query: Mapping[str, str], default: int) -> int:
    """Returns the number of classes that a query asks for.

    Raises:
        RefusedRequest: (400) it is no number of at least 1.
    """
    given = query.get("topk", str(default))
    if not re.fullmatch(r"[1-9][0-9]{0,6}", given):
        raise RefusedRequest(BAD_REQUEST, "topk must be an integer of at least 1")
    return int(given)
