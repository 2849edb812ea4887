"""Takes the pictures of reports that the documents show; needs the extra `report`, Playwright and Chromium.

ray-classy train recipe:digits --name digits
ray-classy tune recipe:sweeps/asha --name asha
python scripts/take_pictures.py runs/digits runs/asha
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from ray_classy.report import write_report

FOLDER = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1120
SCALE = 1.5
COLOURS = 128
GAP = 14


def take_picture(page: Page, first: str, last: str, name: str) -> None:
    """Writes a picture of a part of a page, with a palette, into `FOLDER`.

    Args:
        page: of the browser.
        first, last: selectors of the elements with which the part begins and ends.
        name: of the file.
    """
    above, below = (page.locator(one).first.bounding_box() for one in (first, last))
    top = max(0, above["y"] - GAP)
    clip = {"x": 0, "y": top, "width": WIDTH, "height": below["y"] + below["height"] + GAP - top}
    image = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)
    print(FOLDER / name, f"{(FOLDER / name).stat().st_size / 1000:.0f} kB")


def main(run: str, sweep: str) -> None:
    """Writes the reports of a run and of a sweep, and takes their pictures."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        for path, parts in ((run, RUN), (sweep, SWEEP)):
            page.goto(f"file://{Path(write_report(path).html).absolute()}")
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            page.wait_for_function(DRAWN)
            for part in parts:
                take_picture(page, *part)
        browser.close()


DRAWN = "() => [...document.querySelectorAll('[data-figure]')].every(one => one.dataset.drawn === 'yes')"
RUN = (("header", "#learning figure", "report.png"), ("#confusions-0", "#suspicious-0", "mistakes.png"))
SWEEP = (("header", "#trials figure >> nth=1", "sweep.png"),)

if __name__ == "__main__":
    main(*sys.argv[1:])
