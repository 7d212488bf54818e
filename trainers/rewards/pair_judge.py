"""A judge of pairs behind an OpenAI-compatible server: both images and the protocol's question in one message."""

from __future__ import annotations

import base64
import os
from typing import Any

from annotate.vlm.contract import Answer, AskError
from annotate.vlm.openai_chat import api_key
from annotate.vlm.pool import ServerPool
from annotate.vlm.replies import RAW_LENGTH, read_completion, status_error
from annotate.vlm.retrying import RetryingClient
from annotate.vlm.servers import addresses, parameters
from generators.images import GeneratedImage
from sdg_data.chat_marks import without_marks
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.settings import VlmSettings
from sdg_data.web_addresses import below, without_secrets
from trainers.rewards.contract import BaseReward
from trainers.rewards.judge import question_of
from trainers.rewards.pair_protocols import PROTOCOLS, PairProtocol
from trainers.rewards.pairwise import JudgedPair, PairwiseReward
from trainers.rewards.settings import RewardSettings, check_address


class ServerPairJudge:
    """Asks a server which of two images is better."""

    def __init__(self, settings: VlmSettings, protocol: PairProtocol) -> None:
        """Connect to nothing yet.

        Args:
            settings: The server, its model, and how much is asked at a time.
            protocol: What is asked, and how the answer is read.
        """
        self.name = settings.model
        self._settings, self._protocol = settings, protocol
        self._key = api_key(settings, os.environ)
        self._session: Any = None
        self._client: RetryingClient | None = None
        self._pool: ServerPool | None = None

    async def compare(self, first: GeneratedImage, second: GeneratedImage) -> JudgedPair:
        """Ask about two images of one prompt; a failed or unreadable answer is missing, with its reason."""
        if self._client is None:  # bound to the event loop that it is first used on
            backend: Any = self
            self._client = RetryingClient(
                backend, concurrency=self._settings.concurrency, deadline=self._settings.deadline
            )
        question: Any = (first, second)
        try:
            answer = await self._client.ask(question)
        except AskError as error:
            return JudgedPair(None, f"{error.code}: {error.message}", error.fatal)
        if answer.hit_length:
            return JudgedPair(None, "the answer was cut off")
        return self._protocol.read(answer.text)

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()
        if self._session is not None:
            await self._session.close()

    async def ask(self, question: tuple[GeneratedImage, GeneratedImage]) -> Answer:
        """Send one question to one of the servers; `AskError` is raised where no answer came, or one without text.

        Args:
            question: The two images, in the order in which they are shown.

        Returns:
            The answer.

        Raises:
            MissingDependency: aiohttp is not installed.
        """
        try:
            import aiohttp
        except ImportError as error:
            raise MissingDependency("aiohttp is not installed", hint="pip install 'sdg-data[train]'") from error
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._key.get_secret_value()}"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        if self._pool is None:
            self._pool = ServerPool(addresses(self._settings, {}), self._look, deadline=self._settings.deadline)
        return await self._pool.ask(lambda address: self._ask(address, question))

    async def _ask(self, address: str, question: tuple[GeneratedImage, GeneratedImage]) -> Answer:
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.post(below(address, "chat/completions"), json=self._body(question)) as response:
                text = await response.text(errors="replace")
                status, headers = response.status, {name.lower(): value for name, value in response.headers.items()}
        except (aiohttp.ClientError, OSError) as error:
            problem = without_secrets(f"{type(error).__name__}: {error}")
            raise AskError("connection", problem, transient=True) from error
        if status != 200:
            raise status_error(status, text, headers)
        completion = read_completion(text)
        if completion.refusal or completion.finish == "filtered":
            raise AskError(
                "refused", completion.refusal[:500] or "stopped by the server's filter", raw=text[:RAW_LENGTH]
            )
        return Answer(completion.text, completion.finish, completion.tokens_in, completion.tokens_out)

    async def _look(self, address: str) -> int:
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.get(below(address, "models")) as response:
                return int(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AskError("connection", without_secrets(f"{type(error).__name__}: {error}"), transient=True) from error

    def _body(self, question: tuple[GeneratedImage, GeneratedImage]) -> dict[str, Any]:
        addresses = ["data:image/png;base64," + base64.b64encode(image.png()).decode() for image in question]
        pictures = [{"type": "image_url", "image_url": {"url": address}} for address in addresses]
        text = {"type": "text", "text": self._protocol.ask(without_marks(question[0].prompt))}
        return {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": [*pictures, text]}],
            **parameters(self._settings, self._settings.max_tokens),
        }


def make_pairwise(settings: RewardSettings) -> BaseReward:
    """The pairwise reward of a kind, by the judge that `vlm` names; `template` is a file with another question.

    Args:
        settings: The reward's.

    Returns:
        The reward; nothing is asked yet.

    Raises:
        ConfigError: No `vlm`, one that is no server, or a question that cannot be read or has no `{prompt}`.
    """
    protocol = PROTOCOLS[settings.kind]
    if settings.vlm is None or settings.vlm.backend != "openai":
        raise ConfigError(
            f"the reward {settings.kind!r} needs a server that sees two images at a time",
            hint='`vlm` with backend = "openai", a model and its base_url, as in [prelabel].',
        )
    check_address(settings.vlm, "judge")
    question = question_of(settings.template, protocol.question)
    return PairwiseReward(ServerPairJudge(settings.vlm, PairProtocol(question, protocol.read)))
