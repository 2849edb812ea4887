"""Serves the predictions of a trained model over HTTP, by Ray Serve."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ray_classy.dataset.image_options import MAX_PIXELS
from ray_classy.dataset.target_columns import ONLY
from ray_classy.errors import ComponentError, RayClassyError
from ray_classy.inference.classifier import Classifier
from ray_classy.inference.load_model import load_model
from ray_classy.inference.service_metrics import CONTENT_TYPE, ServiceMetrics
from ray_classy.inference.service_page import HEADERS, PAGE
from ray_classy.inference.upload import RefusedRequest, UploadLimits, decode_upload, image_bytes, topk_of
from ray_classy.models.pretrained import require
from ray_classy.urls import expanded, is_url

NAME = "ray_classy"
"""Of the application and its deployment."""
_WAIT_SECONDS = 0.005
"""How long a batch that is not full waits for more images."""
_ONGOING, _QUEUED = 256, 1024
"""Requests that a replica works at, and that wait for one; more are answered with 503."""
_DRAINED_BYTES = 256 * 2**20
"""Of a body that is too large, so much is read and thrown away: a client that still sends sees no answer."""


class ServeOptions(BaseModel):
    """Options of a service.

    Attributes:
        run: a run, a checkpoint or an export, that every replica can read; local or a URL.
        topk: classes of each image, where a request does not ask for another number.
        batch_size: images that the model takes at once.
        max_megabytes: size of the largest upload, in MiB.
        max_pixels: of the largest image.
        num_replicas: processes that predict, each with the model.
        num_cpus, use_gpu: what each of them gets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    topk: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=1)
    max_megabytes: int = Field(32, ge=1)
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    num_replicas: int = Field(1, ge=1)
    num_cpus: int = Field(1, ge=1)
    use_gpu: bool = False


def serve_app(run: str | Mapping[str, Any]) -> Any:
    """Returns an application of Ray Serve that answers `POST /predict` with the classes of an image.

    Args:
        run: a run, a checkpoint or an export; or a mapping with that as `run`, and further options by name (see
            `ServeOptions`), as `serve run ray_classy.inference:serve_app run=runs/NAME topk=3` gives them.

    Returns:
        What `ray.serve.run` and `serve run` take.

    Raises:
        UnavailableError: Ray Serve is not installed.
        ComponentError: an option is unknown, or has an impossible value.
    """
    require_serve()
    from ray import serve

    try:
        options = ServeOptions.model_validate({"run": run} if isinstance(run, str) else dict(run))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ComponentError(f"serve_app: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
    if not is_url(options.run):
        options = options.model_copy(update={"run": os.path.abspath(expanded(options.run))})
    deployment: Any = serve.deployment(
        ClassifierService,
        name=NAME,
        num_replicas=options.num_replicas,
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_QUEUED,
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": int(options.use_gpu)},
    )
    return deployment.bind(options.model_dump())


def require_serve() -> None:
    """Checks that Ray Serve is installed.

    Raises:
        UnavailableError: it is not.
    """
    for package in ("starlette", "uvicorn", "fastapi"):
        require(package, "serve")


def check_one_target(model: Classifier) -> None:
    """Checks that a model has one output, whose classes an answer can name.

    Raises:
        ComponentError: it has several targets.
    """
    if ONLY not in model.outputs:
        targets = ", ".join(model.outputs)
        raise ComponentError(f"the model has several targets ({targets}), and a service answers for one: use predict")


class ClassifierService:
    """One replica: it decodes uploads, collects them in batches, and predicts their classes.

    Args:
        options: those of `ServeOptions`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        import torch
        from ray import serve
        from ray.util import metrics

        self._options = ServeOptions.model_validate(options)
        torch.set_num_threads(self._options.num_cpus)
        self._model: Classifier = load_model(self._options.run)
        check_one_target(self._model)
        self._limits = UploadLimits(self._options.max_megabytes * 2**20, self._options.max_pixels)
        self._metrics = ServiceMetrics(lambda kind, *values, **options: getattr(metrics, kind)(*values, **options))
        batched: Any = serve.batch
        self._batched = batched(
            self._scores_of, max_batch_size=self._options.batch_size, batch_wait_timeout_s=_WAIT_SECONDS
        )

    async def __call__(self, request: Any) -> Any:
        """Answers one request; see docs/inference.md for the routes."""
        from starlette.responses import HTMLResponse, JSONResponse, Response

        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")).rstrip("/") or "/"
        routes = {"/predict": ("POST",), **dict.fromkeys(("/", "/healthz", "/metrics"), ("GET", "HEAD"))}
        if path not in routes:
            return JSONResponse({"error": "there is no such page: POST an image to /predict"}, 404)
        if request.method not in routes[path]:
            allowed = ", ".join(routes[path])
            return JSONResponse({"error": f"{path} takes {allowed}"}, 405, headers={"Allow": allowed})
        if path == "/":
            return HTMLResponse(PAGE, headers=HEADERS)
        if path == "/healthz":
            classes = self._model.classes
            facts = {"model": self._model.path, "classes": classes and len(classes)}
            counts = {"images": self._metrics.images, "batches": self._metrics.batches}
            return JSONResponse({"status": "ok", **facts, **counts})
        if path == "/metrics":
            return Response(self._metrics.text(), media_type=CONTENT_TYPE)
        began = time.perf_counter()
        try:
            content, status = await self._answer(request), 200
        except RefusedRequest as error:
            content, status = {"error": str(error)}, error.status
        except RayClassyError as error:  # the model does not take what its preprocessing makes
            content, status = {"error": f"the model failed: {error}"}, 500
        self._metrics.answered(status, time.perf_counter() - began)
        return JSONResponse(content, status)

    async def _answer(self, request: Any) -> dict[str, Any]:
        topk = topk_of(request.query_params, self._options.topk)
        data = image_bytes(request.headers.get("content-type", ""), await self._body(request))
        image = await asyncio.to_thread(decode_upload, data, self._model.preprocessing, self._limits)
        scores = await self._batched(image)
        if isinstance(scores, RayClassyError):
            raise scores
        (found,) = self._model.predictions(scores[None], topk)
        top = [{"label": label, "score": score} for label, score in found.top]
        return {"prediction": found.label, "score": found.score, "topk": top}

    async def _body(self, request: Any) -> bytes:
        body, count = bytearray(), 0
        async for part in request.stream():
            count += len(part)
            if count <= self._limits.most_bytes:
                body += part
            elif count > _DRAINED_BYTES:
                break
        self._limits.check_bytes(count)
        return bytes(body)

    async def _scores_of(self, images: list[Any]) -> Sequence[Any]:
        self._metrics.predicted(len(images))
        return await asyncio.to_thread(self._scores, images)

    def _scores(self, images: list[Any]) -> list[Any]:
        """The probabilities of the classes of each image, or the error; one image does not spoil those of others."""
        try:
            return [row for _, scores in self._model.scores(images, len(images)) for row in scores.cpu()]
        except RayClassyError as error:
            return [error] if len(images) == 1 else [one for image in images for one in self._scores([image])]
