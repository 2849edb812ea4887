"""The page of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ray_classy.config import dump_yaml
from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import RayClassyError
from ray_classy.inference.labels_report import LabelsReport
from ray_classy.inference.report import Report
from ray_classy.inference.trained import Trained
from ray_classy.printable import printable
from ray_classy.report.commands import run_commands
from ray_classy.report.curves import events_of, learning_figures
from ray_classy.report.first_batches import FirstBatches, first_batches
from ray_classy.report.mistakes import calibration_figures, target_data
from ray_classy.report.page import Page
from ray_classy.report.pictures import Album
from ray_classy.report.provenance import changes_of, cost_of, environment_of
from ray_classy.report.run_source import RunSource, part
from ray_classy.report.scores import Scored, score
from ray_classy.report.words import count, metric_name, number, percent, shortened, worker_time
from ray_classy.trainer.run_rows import final_metrics

_SOURCES = ("image_folder", "manifest", "files", "shards", "video_folder", "root", "folder")
"""Keys under which datasets name their files."""


def run_page(run: RunSource, read: Callable[[str], Trained], most_rows: int) -> Page:
    """Makes the page of a run.

    Args:
        run: its records.
        read: reads the checkpoint of a run.
        most_rows: of the test dataset that are evaluated; 0 evaluates none and reads no image.
    """
    page, album = Page("run.html.j2", run.name), Album()
    scored = batches = None
    if most_rows:
        trained = _tried(page, "The model is not evaluated", lambda: read(run.folder.path))
        if trained is not None:
            scored = _tried(page, "The model is not evaluated", lambda: score(trained, most_rows))
        config = trained.config if trained is not None else run.config
        if not config:
            page.notes.append("The task was built in Python, so its data cannot be read again: there are no pictures.")
        elif part(config, "dataset", "train"):
            batches = _tried(page, "There are no pictures of training images", lambda: first_batches(config, album))
    page.context.update(
        run=run,
        lead=list(lead_of(run, scored, batches)),
        result=result_of(run, scored),
        batches=batches,
        targets=_targets(page, scored, album),
        learning=[page.figure(one) for one in learning_figures([run])],
        events=events_of(run),
        changes=changes_of(run),
        config=dump_yaml(run.config) if run.config else "",
        environment=environment_of(run),
        cost=cost_of(run),
        commands=run_commands(run),
        unit=unit_of(run.config),
    )
    page.pictures = album.sources
    return page


def _tried(page: Page, what: str, make: Callable[[], Any]) -> Any:
    """What a function returns; where its data is gone or cannot be read, None and a note on the page."""
    try:
        return make()
    except (RayClassyError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        page.notes.append(f"{what}: {printable(lines[0])}")
        return None


def _targets(page: Page, scored: Scored | None, album: Album) -> list[dict[str, Any]]:
    """The sections of the targets; what the script needs of them is added to the page's data."""
    sections: list[dict[str, Any]] = []
    for target, one in scored.evaluation.targets.items() if scored is not None else ():
        data = target_data(scored, target, album)  # type: ignore[arg-type]
        page.data.setdefault("targets", []).append(data)
        single = isinstance(one.report, Report)
        sections.append(
            {
                "name": "" if target == ONLY else target,
                "number": len(sections),
                "single": single,
                "summary": _summary(one.report),
                "classes": data["per_class"],
                "matrix": data.get("matrix", False),
                "confused": any(cell["true"] != cell["predicted"] for cell in data.get("cells", ())),
                "suspicious": data["suspicious"],
                "calibration": list(map(page.figure, calibration_figures(one.report)))
                if isinstance(one.report, Report)
                else [],
            }
        )
    return sections


def _summary(report: Report | LabelsReport) -> str:
    """The result of one of several targets."""
    if isinstance(report, Report):
        low, high = report.intervals["accuracy"]
        interval = f"95 % interval {percent(low)} to {percent(high)}"
        return f"{percent(report.accuracy)} of {report.rows:,} are right ({interval})."
    low, high = report.intervals["micro_f1"]
    f1, precision = report.averages()["micro"]["f1"], report.mean_average_precision
    return (
        f"F1 {number(f1)} (95 % interval {number(low)} to {number(high)}), mean average precision {number(precision)}."
    )


def unit_of(config: Mapping[str, Any]) -> str:
    """What a row is, in the singular: "image" or "clip"."""
    names = [str(part(config, "dataset", kind).get("name")) for kind in ("train", "test")]
    return "clip" if any("video" in name or name in ("hmdb51", "ucf101", "kinetics400") for name in names) else "image"


def lead_of(run: RunSource, scored: Scored | None, batches: FirstBatches | None) -> Iterator[str]:
    """Yields sentences that say what was trained on what."""
    config, unit = run.config, unit_of(run.config)
    model = str(part(config, "model").get("name") or run.facts.get("task") or "A model")
    size = f" with {scored.parameters:,} parameters" if scored is not None else ""
    epochs = number(run.row.epochs).removesuffix(".0000") if run.row.epochs else "0"
    passes = f"{epochs} {'epoch' if epochs == '1' else 'epochs'}"
    rows = f" on {count(batches.rows, unit)}" if batches is not None else ""
    classes = f", in {count(batches.classes, 'class', 'classes')}" if batches is not None and batches.classes else ""
    source = source_of(config)
    where = f"{' of' if rows else ' on'} {source}" if source else ""
    trained = "was only tested" if config.get("test_only") else f"was trained for {passes}{rows}{where}{classes}"
    yield f"The network {model}{size} {trained}."
    start = config.get("checkpoint") or config.get("pretrained_checkpoint")
    weights = part(config, "model").get("weights") or part(config, "model").get("pretrained")
    if start or weights:
        yield f"It started from the weights {shortened(str(start or weights))}."
    elif config:
        yield "It started from random weights."
    if run.lines:
        workers = run.workers_of(run.lines[-1])
        device = run.lines[-1].get("device")
        on = f" ({device})" if device else ""
        yield f"The training took {worker_time(run.seconds)} on {count(workers, 'worker')}{on}."
    if run.row.state != "finished":
        yield f"The run is not complete: its state is “{run.row.state}”."
    if run.row.note:
        yield f"{run.row.note}."


def source_of(config: Mapping[str, Any]) -> str:
    """What the training data is: the name of the dataset, or the file or folder that it is read from."""
    section = part(config, "dataset", "train") or part(config, "dataset", "test")
    source = next((section[key] for key in _SOURCES if isinstance(section.get(key), str)), None)
    return shortened(str(source or section.get("name") or ""))


def result_of(run: RunSource, scored: Scored | None) -> dict[str, Any] | None:
    """The result with its interval, and figures beside it; of a model that is not evaluated, what the run recorded."""
    unit = unit_of(run.config)
    if scored is None:
        value = run.row.best
        if run.row.metric is None or value is None:
            return None
        return {
            "value": number(value),
            "caption": f"is the best value of {metric_name(run.row.metric)} that the run recorded",
            "interval": "",
            "checkpoint": "",
            "tiles": [(metric_name(name), number(value)) for name, value in final_metrics(run.lines).items()][:6],
        }
    report = scored.evaluation.report
    which = f"test {unit}s"
    amount = f"{report.rows:,} {which}" if not scored.part else f"{report.rows:,} {which} (drawn from {scored.rows:,})"
    kind = f"With other test {unit}s of the same kind, this would most likely be between"
    tiles = [("cross-entropy", number(report.loss))]
    if isinstance(report, LabelsReport):
        low, high = report.intervals["micro_f1"]
        tiles = [
            ("mean average precision", number(report.mean_average_precision)),
            ("F1, mean of classes", number(report.averages()["macro"]["f1"])),
            (f"{unit}s with all labels right", percent(report.subset_accuracy)),
            *tiles,
        ]
        shown, caption = number(report.averages()["micro"]["f1"]), f"is the F1 score of the labels of {amount}"
        interval = f"{number(low)} and {number(high)}"
    else:
        low, high = report.intervals["accuracy"]
        commonest = float(report.confusion.sum(axis=1).max() / report.rows)
        tiles = [
            *((f"among the first {k}", percent(share)) for k, share in report.top_k.items()),
            ("F1, mean of classes", number(report.averages()["macro"]["f1"])),
            *tiles,
            ("calibration error", percent(report.calibration_error)),
            ("baseline: always the largest class", percent(commonest)),
        ]
        shown, caption = percent(report.accuracy), f"of {amount} are classified right"
        interval = f"{percent(low)} and {percent(high)}"
    several = len(scored.evaluation.targets) > 1
    target = f" (target {next(iter(scored.evaluation.targets))})" if several else ""
    bad = f" {count(report.bad, unit)} cannot be decoded." if report.bad else ""
    return {
        "value": shown,
        "low": low,
        "high": high,
        "caption": caption + target,
        "interval": (f"{kind} {interval} (95 % interval)." if low < high else "") + bad + _bias(run),
        "checkpoint": scored.trained.path.rstrip("/").rpartition("/")[2],
        "tiles": tiles,
    }


def _bias(run: RunSource) -> str:
    """Says that the best of several checkpoints was chosen on the test data; empty if it was not."""
    tests, metric = sum(line.get("phase_type") == "test" for line in run.lines), run.row.metric or ""
    if tests < 2 or not metric.startswith("test."):
        return ""
    return f" The checkpoint was chosen by its {metric_name(metric)}, so the result is slightly optimistic."
