"""The service of a trained model, on a real Ray Serve."""

import io
import json
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from ray_classy.errors import ComponentError
from ray_classy.inference import serve_app

pytest.importorskip("starlette")
pytest.importorskip("fastapi")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "r", "topk": 0}, "topk: Input should be greater"),
        ({"run": "r", "workers": 2}, "workers: Extra"),
        ({}, "run: Field"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ComponentError, match=message):
        serve_app(options)


@pytest.fixture(scope="module")
def service(ray_cluster, result):
    """Its URL."""
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(serve_app({"run": result.path, "max_megabytes": "1", "max_pixels": "1000000"}), name="test")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def ask(url, data=None, **headers):
    """The status and the answer."""
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def encoded(image, form="PNG"):
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.mark.ray
@pytest.mark.full
def test_images_get_the_classes_that_the_model_predicts(service, model, digits):
    images = digits[0][:24]
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda image: ask(f"{service}/predict?topk=2", encoded(image)), images))
    for (status, text), expected in zip(found, model.predict(images, topk=2), strict=True):
        answer = json.loads(text)
        assert status == 200 and answer["prediction"] == expected.label
        assert [one["label"] for one in answer["topk"]] == [label for label, _ in expected.top]
        assert answer["score"] == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.ray
@pytest.mark.full
def test_a_photo_in_a_form_is_taken(service):
    photo = encoded(Image.fromarray(np.zeros((300, 200, 3), np.uint8)), "JPEG")
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\n\r\n' + photo + b"\r\n--x--\r\n"
    status, text = ask(f"{service}/predict", form, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 200 and len(json.loads(text)["topk"]) == 5


@pytest.mark.ray
@pytest.mark.full
def test_what_is_no_image_gets_its_status(service):
    large = encoded(Image.fromarray(np.zeros((1001, 1000, 3), np.uint8)))
    cases = [(b"text", 415), (b"\xff\xd8\xff damaged", 400), (bytes(2**21), 413), (large, 413), (b"", 400)]
    for data, status in cases:
        found, text = ask(f"{service}/predict", data)
        assert found == status and json.loads(text)["error"], (data[:10], found, text)


@pytest.mark.ray
@pytest.mark.full
def test_it_has_a_page_and_says_that_it_is_well(service):
    status, page = ask(f"{service}/")
    assert status == 200 and '<input type="file"' in page
    status, text = ask(f"{service}/healthz")
    assert status == 200 and json.loads(text)["classes"] == 10
    assert ask(f"{service}/predict", b"no image")[0] == 415
    status, text = ask(f"{service}/metrics")
    assert status == 200 and 'ray_classy_answers_total{status="415"}' in text
    assert ask(f"{service}/predict")[0] == 405 and ask(f"{service}/other")[0] == 404


@pytest.mark.ray
@pytest.mark.full
def test_images_that_arrive_together_are_batched(service, digits):
    def taken():
        health = json.loads(ask(f"{service}/healthz")[1])
        return np.array([health["images"], health["batches"]])

    before = taken()
    with ThreadPoolExecutor(64) as pool:
        assert {
            status for status, _ in pool.map(lambda image: ask(f"{service}/predict", encoded(image)), digits[0][:64])
        } == {200}
    images, batches = taken() - before
    assert images == 64 and batches < 64
