"""The page on which raters compare: a Gradio application with one component of its own, and the pictures beside it.

Gradio rather than Label Studio, because a rater needs two images at full resolution that zoom together and one key an
answer, and because the order and the sides are the study's to decide. Each rater has a link with a token; a vote is in
the store before the page goes on.
"""

import hmac
import io
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from PIL import Image
from pydantic import ValidationError

from annotate.study.order import arrangements, sequence
from schemas.records import ImageRecord
from schemas.study import Study, StudyTrial, StudyVote
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobError, ConfigError, SdgError
from sdg_data.picture import PictureError, decode_image, for_browser
from sdg_data.store import images, studies
from sdg_data.store.connection import Store

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")
_SOON = 2
"""Trials whose pictures are fetched ahead."""
MAX_SECONDS = 86_400.0


def add_raters(store: Store, study: Study, names: list[str]) -> dict[str, int]:
    """Enter raters, and return all of the study's with their numbers.

    Raises:
        ConfigError: A name is no name, or there are no raters at all.
    """
    for name in names:
        if not _NAME.match(name) or name != name.strip():
            raise ConfigError(f"{name!r} is no name for a rater", item="--raters")
    with store.write() as tx:
        studies.add_raters(tx, study.id, names)
        known = studies.raters(tx, study.id)
    if not known:
        raise ConfigError("nobody is asked", item=study.name, hint="--raters ann,ben")
    return known


def tokens(home: Path, study: Study, raters: Mapping[str, int]) -> dict[str, str]:
    """Rater -> the token of the rater's link. They stay the same as long as the study's key file does.

    Raises:
        ConfigError: The key file cannot be written or read.
    """
    path = home / "studies" / f"{study.id}.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, secrets.token_hex(32).encode())
            finally:
                os.close(descriptor)
        except FileExistsError:
            pass
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot keep the key of the raters' links ({error.strerror})", item=str(path)) from error
    return {name: hmac.new(key, name.encode(), "sha256").hexdigest()[:32] for name in raters}


@dataclass
class Session:
    """A study while it is served: what each rater is asked, and what a rater's page may do.

    `links` is rater -> token.
    """

    store: Store
    blobs: Blobs
    study: Study
    links: Mapping[str, str]
    numbers: Mapping[str, int]
    _trials: list[StudyTrial] = field(init=False)
    _records: dict[str, ImageRecord] = field(init=False)

    def __post_init__(self) -> None:
        with self.store.read() as tx:
            self._trials = studies.trials(tx, self.study.id)
            wanted = {image for trial in self._trials for image in (*trial.images, trial.reference) if image}
            self._records = images.by_ids(tx, sorted(wanted))
        missing = wanted - set(self._records)
        if missing:
            raise ConfigError(
                f"{len(missing)} images of the study are not in the store any more", item=sorted(missing)[0]
            )

    @cached_property
    def _orders(self) -> dict[str, list[StudyTrial]]:
        return {rater: sequence(self._trials, self.study.seed, rater) for rater in self.numbers}

    @cached_property
    def _sides(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return {rater: arrangements(self._trials, number) for rater, number in self.numbers.items()}

    def rater(self, token: object) -> str | None:
        """Whose token it is; None: nobody's."""
        given = str(token).encode("utf-8", "surrogatepass")
        return next((name for name, known in self.links.items() if hmac.compare_digest(given, known.encode())), None)

    def trial(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What to show: the trial at a place of the rater's order (`at`), or the first without an answer.

        Args:
            request: `token`, and `at`: a place, or None.

        Returns:
            What page.js shows; with `error`, a sentence for the rater.
        """
        rater = self.rater(request.get("token"))
        if rater is None:
            return {"error": "This link is not valid. Ask whoever sent it for a new one."}
        try:
            with self.store.read() as tx:
                votes = studies.votes(tx, self.study.id, rater)
            return self._state(rater, votes, request.get("at"))
        except SdgError as error:
            return {"error": f"The study cannot be read: {error.message}"}

    def vote(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Store an answer, and return what comes next.

        Args:
            request: `token`, `trial` (its id), `ranks` from left to right as shown, `seconds`.

        Returns:
            As `trial`.
        """
        rater = self.rater(request.get("token"))
        if rater is None:
            return {"error": "This link is not valid. Ask whoever sent it for a new one."}
        order = self._orders[rater]
        place = next((k for k, trial in enumerate(order) if trial.id == request.get("trial")), None)
        if place is None:
            return {"error": "That question is not of this study. Reload the page."}
        trial = order[place]
        shown = self._sides[rater][trial.id]
        given, seconds = request.get("ranks"), request.get("seconds")
        if not isinstance(given, list) or len(given) != len(shown):
            return {"error": "Not saved: every image needs a rank."}
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
            seconds = MAX_SECONDS
        ranks = [rank for _, rank in sorted(zip(shown, given, strict=True), key=lambda pair: pair[0])]
        try:
            with self.store.write() as tx:
                before = studies.votes(tx, self.study.id, rater)
                vote = studies.vote(tx, trial, rater, shown=shown, ranks=ranks, seconds=float(seconds))
            others = [other for other in before if other.trial_id != trial.id]
            revised = len(others) < len(before)
            return {**self._state(rater, [*others, vote], place + 1 if revised else None), "saved": True}
        except ValidationError:
            return {"error": "Not saved: those are no ranks of this question."}
        except SdgError as error:
            return {"error": f"Not saved: {error.message}. Press the key again in a moment."}

    def picture(self, token: str, trial_id: str, place: str) -> tuple[str, bytes] | None:
        """The picture that a rater sees at a place of a trial, from the left; `reference` is the one beside them.

        Where there is a reference, the others are scaled to its size: an editor may have changed it.

        Returns:
            Media type and bytes; None where there is no such picture for this rater.

        Raises:
            BlobError: It cannot be read.
            PictureError: It is no picture.
        """
        rater = self.rater(token)
        trial = next((trial for trial in self._trials if trial.id == trial_id), None)
        if rater is None or trial is None:
            return None
        if place == "reference":
            image = trial.reference
        else:
            shown = self._sides[rater][trial.id]
            image = trial.images[shown[int(place)]] if place.isdecimal() and int(place) < len(shown) else None
        if image is None:
            return None
        record = self._records[image]
        reference = self._records[trial.reference] if trial.reference else record
        data = self.blobs.get(record.blob)
        if (record.width, record.height) == (reference.width, reference.height):
            return for_browser(data)
        scaled = decode_image(data).resize((reference.width, reference.height), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        scaled.save(file, "PNG", compress_level=1)
        return "image/png", file.getvalue()

    def _state(self, rater: str, counted: Sequence[StudyVote], at: object) -> dict[str, Any]:
        order = self._orders[rater]
        votes = {vote.trial_id: vote for vote in counted}
        waiting = [place for place, trial in enumerate(order) if trial.id not in votes]
        place = waiting[0] if waiting else len(order)
        if isinstance(at, int) and not isinstance(at, bool):
            place = min(max(0, at), len(order))
        soon = [k for k in waiting if k > place][:_SOON]
        return {
            "protocol": self.study.protocol,
            "answered": len(votes),
            "total": len(order),
            "at": place,
            "trial": self._shown(rater, order[place], votes.get(order[place].id)) if place < len(order) else None,
            "soon": [url for k in soon for url in self._urls(rater, order[k])],
        }

    def _shown(self, rater: str, trial: StudyTrial, vote: StudyVote | None) -> dict[str, Any]:
        return {
            "id": trial.id,
            "prompt": trial.prompt,
            "pictures": self._urls(rater, trial),
            "reference": f"picture/{self.links[rater]}/{trial.id}/reference" if trial.reference else None,
            "answer": None if vote is None else [vote.ranks[k] for k in vote.shown],
        }

    def _urls(self, rater: str, trial: StudyTrial) -> list[str]:
        return [f"picture/{self.links[rater]}/{trial.id}/{k}" for k in range(len(trial.images))]


def make_app(session: Session) -> FastAPI:
    """The web application of a study: the page at `/?rater=TOKEN`, and its pictures."""
    app = FastAPI(title="sdg-data", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/picture/{token}/{trial_id}/{place}")
    def picture(token: str, trial_id: str, place: str) -> Response:
        """A picture of a trial; its address does not say which arm it is of."""
        try:
            picture = session.picture(token, trial_id, place)
        except (BlobError, PictureError) as error:
            return PlainTextResponse(f"the picture cannot be shown: {error}", status_code=404)
        if picture is None:
            return PlainTextResponse("there is no such picture", status_code=404)
        media_type, data = picture
        return Response(data, media_type=media_type, headers={"Cache-Control": "private, max-age=86400"})

    def trial(request: dict[str, Any]) -> dict[str, Any]:
        return session.trial(request if isinstance(request, dict) else {})

    def vote(request: dict[str, Any]) -> dict[str, Any]:
        return session.vote(request if isinstance(request, dict) else {})

    here = Path(__file__).parent
    with gr.Blocks(title=session.study.name, analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            html_template=(here / "page.html").read_text(encoding="utf-8"),
            css_template=(here / "page.css").read_text(encoding="utf-8").replace("${", "$ {"),
            js_on_load=(here / "page.js").read_text(encoding="utf-8"),
            server_functions=[trial, vote],
            apply_default_css=False,
        )
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gr.themes.Base(font=["system-ui", "sans-serif"]),
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    return app
