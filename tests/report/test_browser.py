"""Reports in a real browser: they render, sort and answer clicks, without errors and without network."""

import numpy as np
import pytest

from ray_classy.report import write_report
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer
from tests.report.conftest import HOSTILE, config, image_folder


def test_a_run_of_hostile_names_is_rendered_sorted_and_clicked(hostile_run, opened):
    shown = opened(write_report(hostile_run).html)
    assert shown.page.text_content("h1") == "<b>run"
    assert "%" in shown.page.text_content("#result-value")
    shown.page.wait_for_selector("#learning [data-drawn=yes] svg.main-svg")
    assert sorted(shown.column("table-0", 0)) == sorted(HOSTILE)
    for _ in range(2):
        shown.page.click("#table-0 th:nth-child(4) button")
    f1 = [float(text) for text in shown.column("table-0", 3)]
    assert f1 == sorted(f1, reverse=True)
    cell = shown.page.query_selector_all(".cell")[-1]
    cell.click()
    assert cell.get_attribute("aria-pressed") == "true"
    assert shown.page.text_content("[data-gallery] .explained") in cell.get_attribute("aria-label")
    images = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    assert shown.page.eval_on_selector_all("[data-gallery] img", images)
    assert shown.page.eval_on_selector_all("#batches img", "images => images.length") > 8
    assert shown.is_clean()


@pytest.mark.full
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(hostile_run, recorded, opened, width, tmp_path):
    several = write_report([recorded("finished"), recorded("interrupted")], str(tmp_path / "both.html"))
    for path in (write_report(hostile_run).html, several.html, write_report(recorded("sweep")).html):
        shown = opened(path, width=width)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.is_clean()


def test_on_a_phone_long_names_wrap_and_what_scrolls_fades_out(hostile_run, recorded, opened):
    run, sweep = (opened(write_report(one).html, width=300) for one in (hostile_run, recorded("sweep")))
    assert sweep.page.evaluate("document.documentElement.scrollWidth") <= 300
    matrix = run.page.locator(".confusions .scroll")
    assert "more" in matrix.get_attribute("class")
    matrix.evaluate("element => { element.scrollLeft = 1000; }")
    run.page.wait_for_selector(".confusions .scroll:not(.more)")


@pytest.mark.full
def test_a_sweep_is_rendered_and_its_table_sorted(recorded, opened):
    shown = opened(write_report(recorded("sweep")).html)
    shown.page.wait_for_function("document.querySelectorAll('[data-drawn=yes]').length >= 3")
    assert shown.column("table-trials", 0)[:2] == ["t0000", "t0001"]
    shown.page.click("#table-trials th:nth-child(3) button")
    values = [float(text) for text in shown.column("table-trials", 2)]
    assert values == sorted(values) and shown.is_clean()


@pytest.mark.full
def test_of_many_classes_the_most_confused_pairs_are_listed_and_the_table_is_searched(opened, tmp_path):
    names = [f"class {number:02}" for number in range(60)]
    task = build_task(config(image_folder(tmp_path / "images", names, each=2), 60))
    shown = opened(write_report(LocalTrainer(str(tmp_path), "many").train(task).path).html)
    pairs = shown.page.query_selector_all(".pair")
    assert 1 < len(pairs) <= 50 and not shown.page.query_selector(".matrix")
    pairs[-1].click()
    assert "taken for" in shown.page.text_content("[data-gallery] .explained")
    shown.page.fill("input.filter", "CLASS 07")
    assert shown.page.locator("#table-0 tbody tr:visible").count() == 1 and shown.is_clean()


@pytest.mark.full
def test_the_pictures_show_the_images_of_their_rows(opened, tmp_path):
    run = LocalTrainer(str(tmp_path), "r").train(build_task(config(image_folder(tmp_path / "i", "ab"), 2))).path
    shown = opened(write_report(run).html)
    means = shown.page.evaluate(
        """() => Promise.all([...document.querySelectorAll('[data-suspicious] img, [data-gallery] img')].map(image => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
            return pixels.reduce((sum, value, at) => at % 4 < 3 ? sum + value : sum, 0) / (pixels.length * 3 / 4);
        }))"""
    )
    assert means and all(40 < mean < 100 for mean in means) and np.std(means) > 0
