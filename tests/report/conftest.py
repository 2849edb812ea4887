"""A run on images whose classes and names try to be HTML, recorded runs, and a browser."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.data.record import RECORDED

HOSTILE = ("<img src=x onerror='window.hacked=1'>", "<script>window.hacked=1;", 'plain & "quoted" | `class`')
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def image_folder(folder, classes, each=4, side=8):
    """Writes images of one brightness per class, so that some are confused."""
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        place = folder / name
        place.mkdir(parents=True)
        for index in range(each):
            pixels = random.integers(0, 120, (side, side, 3)) + 20 * number
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}'\"&<b>.png")
    return str(folder)


def config(folder, classes, side=8, **more):
    """Trains one layer on a folder of images."""
    images = {"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}
    section = {"name": "image_path", "image_folder": folder, "batchsize_per_replica": 8, "transforms": [images]}
    return {
        "name": "classification_task",
        "num_epochs": 2,
        "dataset": {"train": section, "test": {**section, "use_shuffle": False}},
        "model": {"name": "mlp", "input_dim": 3 * side * side, "output_dim": classes, "hidden_dims": []},
        "loss": {"name": "CrossEntropyLoss"},
        "meters": {"accuracy": {"topk": [1]}},
        "optimizer": {"name": "sgd", "lr": 0.01},
        **more,
    }


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory):
    """The folder of a run whose classes are named `HOSTILE`."""
    folder = tmp_path_factory.mktemp("hostile")
    task = build_task(config(image_folder(folder / "images", HOSTILE), len(HOSTILE)))
    return LocalTrainer(str(folder / "runs"), "<b>run").train(task).path


@pytest.fixture
def recorded(tmp_path):
    """Copies a recorded run, and returns its path."""
    return lambda name: str(shutil.copytree(RECORDED / name, tmp_path / name, symlinks=True))


@pytest.fixture(scope="module")  # while Playwright runs, no other test can use asyncio
def browser():
    """A headless Chromium; under CI it must be there."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("there is no Chromium: apt-get install chromium")
    assert CHROMIUM is not None, "the tests of reports need Chromium: apt-get install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Opened:
    """A page in the browser, with what it complained of and what it asked the network for.

    Attributes:
        page: Playwright's.
        complaints: texts of the console, of errors and of dialogs.
        requests: URLs outside the page.
    """

    def __init__(self, browser, path, width=1280):
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.set_default_timeout(60_000)
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.goto(f"file://{path}")
        self.page.wait_for_selector("html[data-ready=yes]", state="attached")

    def _requested(self, url):
        if not url.startswith(("file:", "data:", "blob:")):
            self.requests.append(url)

    def column(self, table, number):
        """The texts of a column of a table."""
        return self.page.eval_on_selector_all(
            f"#{table} tbody tr", f"rows => rows.map(row => row.cells[{number}].textContent.trim())"
        )

    def is_clean(self):
        """Whether nothing was complained of, asked for, or run that came from the data."""
        return not self.complaints and not self.requests and self.page.evaluate("window.hacked === undefined")


@pytest.fixture
def opened(browser):
    """Opens pages, and closes them after the test."""
    pages = []

    def open_page(path, **options):
        pages.append(Opened(browser, path, **options))
        return pages[-1]

    yield open_page
    for one in pages:
        one.page.close()
