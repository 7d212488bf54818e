"""`sdg serve doctor`: a trained doctor over HTTP.

It is `sdg serve detector` with another model behind it, so OpenAI's protocol and Label Studio's both answer, with the
regions of its maps as boxes; a token, bounds and the queue are the same. One route more has everything it says:

    POST /judge   {"prompt": "…", "image": "data:image/png;base64,…"}
                  -> {"scores": {…}, "heatmaps": {"artifact": "data:image/png;base64,…" or null, …},
                      "defects": [{box, type, importance}] or null, "text": "…", "reason": "…"}

A map is grey, 255 is 1. `null` is what the doctor did not say; `reason` names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr

from annotate.serve.app import make_app
from annotate.serve.served import Served, image_of_url, read_body
from annotate.vlm.batching import DynamicBatcher, QueueFull
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.qwen.load import weights_hash
from exports.dataset.image_extras import encoded
from schemas.answer.parse import render_answer
from schemas.codecs import Qwen3VL
from schemas.geometry import ImageSize
from sdg_data.blobs import Blobs
from sdg_data.console import say, settings_of
from sdg_data.errors import MissingDependency
from sdg_data.listening import listen, required_token
from sdg_data.picture import decode_image
from sdg_data.store.connection import Store
from trainers.detector.evaluation import png
from trainers.detector.heatmaps import HeatmapReading
from trainers.doctor.use import Doctor


class DoctorBackend:
    """A doctor as a backend of `annotate.vlm`: its answer is the regions of its maps, in the detector's form."""

    local = True

    def __init__(self, doctor: Doctor, *, max_wait: float = 0.0, max_waiting: int | None = None) -> None:
        folder = Path(doctor.name)
        revision = weights_hash(folder) if folder.is_dir() else doctor.name
        settings = {"threshold": doctor.threshold}
        self.identity = Identity("doctor", folder.name or doctor.name, revision, settings, doctor.chat.template.id)
        self._doctor = doctor
        self._batcher = DynamicBatcher[Question, HeatmapReading](
            self._run, max_batch=doctor.batch_size, max_wait=max_wait, max_waiting=max_waiting
        )

    @property
    def waiting(self) -> int:
        """The number of questions that wait for the model now."""
        return self._batcher.waiting

    @property
    def computing(self) -> bool:
        """Whether the model is at work on a batch."""
        return self._batcher.computing

    def codec(self, size: ImageSize) -> Qwen3VL:
        """Boxes are written in thousandths, whatever the model itself writes."""
        return Qwen3VL()

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """An image as the doctor is shown it; `ValueError` where the bytes are no image, or of a shape it refuses."""
        image = self._doctor.chat.picture(data)
        return EncodedImage(png(image), "image/png", ImageSize(width=image.width, height=image.height))

    async def ask(self, question: Question) -> Answer:
        """The regions of the maps as a detector's answer.

        Args:
            question: About one image.

        Returns:
            The answer, which reads as a detector's.

        Raises:
            AskError: It drew no map of a type: silence is no clean image.
        """
        reading = await self.judge(question)
        if reading.defects is None or any(heat is None for heat in reading.heatmaps.values()):
            raise AskError("bad-response", reading.reason or "it gave no heatmap", raw=reading.text)
        return Answer(render_answer(reading.defects, None))

    async def judge(self, question: Question) -> HeatmapReading:
        """All that the doctor says of an image."""
        return await self._batcher.put(question)

    async def close(self) -> None:
        """End the model's thread."""
        await self._batcher.close()

    def _run(self, questions: Sequence[Question]) -> list[HeatmapReading]:
        chat = self._doctor.chat
        pictures = []
        for question in questions:
            text = chat.question(question.prompt, question.image.size).text if question.prompt else question.text
            pictures.append((decode_image(question.image.data), text))
        return self._doctor.answer(pictures)


class JudgeRequest(BaseModel):
    """The body of `POST /judge`."""

    prompt: str
    image: str


def doctor_app(
    backend: DoctorBackend, *, home: tuple[Store, Blobs] | None = None, token: SecretStr | None = None
) -> Any:
    """The application: a detector's, and `/judge`."""
    from fastapi import HTTPException, Request

    store, blobs = home if home is not None else (None, None)
    served = Served(backend, backend._doctor.chat.template, 4096, 0.0, store, blobs)
    app = make_app(served, token=token)

    async def judge(request: Request) -> dict[str, Any]:
        asked = await read_body(served, await request.body(), JudgeRequest)
        image = await image_of_url(served, asked.image)
        try:
            return judged_json(await backend.judge(Question("", image, asked.prompt)))
        except QueueFull as error:
            raise HTTPException(503, f"too many requests: {error}", {"retry-after": "1"}) from error

    judge.__annotations__["request"] = Request
    app.post("/judge")(judge)
    return app


def judged_json(reading: HeatmapReading) -> dict[str, Any]:
    """A reading as `/judge` answers it."""
    maps = {
        str(kind): None if heat is None else f"data:image/png;base64,{encoded(heat)}"
        for kind, heat in reading.heatmaps.items()
    }
    defects = None
    if reading.defects is not None:
        defects = [
            {
                "box": [defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1],
                "type": str(defect.type),
                "importance": defect.importance,
            }
            for defect in reading.defects
        ]
    scores = {name: value for name, value in reading.scores.items() if math.isfinite(value)}
    return {"scores": scores, "heatmaps": maps, "defects": defects, "text": reading.text, "reason": reading.reason}


def doctor_command(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="A doctor's folder")],
    public: Annotated[bool, typer.Option("--public", help="It was converted from the published layout")] = False,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine needs a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9091,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a call")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer")] = 4096,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least heat of a region that is a defect")] = 1 / 3,
    queue: Annotated[int, typer.Option(min=1, help="Questions that may wait; beyond that: 503")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    token_env: Annotated[
        str, typer.Option(help="Environment variable with the token that clients must send")
    ] = "SDG_SERVE_TOKEN",
) -> None:
    """Answer about images: POST /judge has scores, maps and boxes; OpenAI's and Label Studio's protocols have boxes."""
    if find_spec("uvicorn") is None:
        raise MissingDependency("uvicorn is not installed", hint="pip install 'sdg-data[vlm]'")

    from annotate.serve.connections import run

    token = required_token(host, token_env)
    listener = listen(host, port, accept=False)
    doctor = Doctor.load(
        model, device=device, public=public, max_tokens=max_tokens, threshold=threshold, batch_size=batch_size
    )
    backend = DoctorBackend(doctor, max_wait=0.005, max_waiting=queue)
    settings = settings_of(ctx)
    has_home = Store(settings.home).path.exists()
    home = (Store(settings.home), Blobs(settings.blob_url)) if has_home else None
    say(f"{backend.identity.model} ({backend.identity.revision[:12]}) on http://{host}:{listener.getsockname()[1]}")
    app = doctor_app(backend, home=home, token=SecretStr(token) if token else None)
    run(app, listener, lambda: backend.computing)
