"""An editor behind an OpenAI-compatible server: `POST /images/edits` with the image, its references and a text.

The paper's form. A refusal by the server's safety filter is a failure with a code of its own, so that a study can count
what was never edited. Only a picture in the answer itself (`b64_json`) is taken: an address in it is not followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from typing import Any, Final

from generators.editors.contract import EditedImage, EditError, EditRequest, GeneratedImage
from generators.editors.local import resized
from generators.editors.presets import EditorPreset
from sdg_data.chat_marks import without_marks
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.picture.decode import decode_pixels
from sdg_data.picture.refusal import PictureError
from sdg_data.web_addresses import below, without_secrets

_TRIES: Final = 3
_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_FATAL: Final = frozenset({401, 403, 404})
_RAW: Final = 2_000
_WAIT: Final = 2.0


class HostedEditor:
    """Asks a server for each edit, and tries again where it is busy."""

    def __init__(self, preset: EditorPreset, *, wait: float = _WAIT) -> None:
        """Connect to nothing yet.

        Args:
            preset: Whom is asked.
            wait: Seconds before the second try; each further one waits twice as long.

        Raises:
            ConfigError: There is no address, or a hosted server without a key.
        """
        if not preset.base_url:
            raise ConfigError(
                "the editor has no address",
                item=f"editors.{preset.name}",
                hint='base_url = "http://127.0.0.1:8000/v1", or "https://api.openai.com/v1" for the hosted one.',
            )
        self.preset = preset
        self._key, self._wait = os.environ.get(preset.api_key_env, ""), wait

    def edit(self, request: EditRequest) -> EditedImage:
        """Edit one image.

        Args:
            request: The image, the instruction and references; the seed and the mask are not sent.

        Returns:
            The edit at the size of the image.

        Raises:
            EditError: Refused, unreadable, or no answer after all tries.
        """
        text = asyncio.run(self._ask(request))
        try:
            picture = base64.b64decode(json.loads(text)["data"][0]["b64_json"], validate=True)
            pixels = decode_pixels(picture)
        except (ValueError, LookupError, TypeError, binascii.Error, PictureError) as error:
            raise EditError("unreadable", f"the answer holds no picture ({error})", raw=text[:_RAW]) from error
        height, width = request.image.shape[:2]
        return EditedImage(resized(pixels[:, :, :3], (width, height)), (pixels.shape[1], pixels.shape[0]))

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    async def _ask(self, request: EditRequest) -> str:
        try:
            import aiohttp
        except ImportError as error:
            raise MissingDependency("aiohttp is not installed", hint="pip install 'sdg-data[annotate]'") from error
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        problem = EditError("unreachable", "the server was not asked")
        timeout = aiohttp.ClientTimeout(total=self.preset.deadline)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            for number in range(_TRIES):
                if number:
                    await asyncio.sleep(self._wait * 2 ** (number - 1))
                url = below(self.preset.base_url, "images/edits")
                try:
                    async with session.post(url, data=self._form(aiohttp, request)) as response:
                        text = self._clean(await response.text(errors="replace"))
                except (aiohttp.ClientError, TimeoutError) as error:
                    problem = EditError("unreachable", without_secrets(f"{type(error).__name__}: {error}"))
                    continue
                if response.status == 200:
                    return text
                problem = _problem(response.status, text)
                if response.status not in _AGAIN:
                    break
        raise problem

    def _clean(self, text: str) -> str:
        """The text without the key, in case a server repeats it in its reply."""
        return text.replace(self._key, "***") if self._key else text

    def _form(self, aiohttp: Any, request: EditRequest) -> Any:
        form = aiohttp.FormData()
        form.add_field("model", self.preset.repository)
        form.add_field("prompt", without_marks(request.instruction))
        form.add_field("n", "1")
        for name, value in self.preset.call.items():
            form.add_field(name, value if isinstance(value, str) else json.dumps(value))
        for number, picture in enumerate([request.image, *request.references][: self.preset.images]):
            data = GeneratedImage(picture, "").png()
            form.add_field("image[]", data, filename=f"{number}.png", content_type="image/png")
        return form


def _problem(status: int, text: str) -> EditError:
    code = "refused" if status == 400 else "server-error"
    return EditError(code, f"the server answered {status}", raw=text[:_RAW], fatal=status in _FATAL)
