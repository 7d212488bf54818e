"""A local HTTP server that does to a client what servers do: answers, is slow, drops, errs, and dies half-way.

It speaks chat completions as far as the tests need, on a thread of its own. What happens to a request is decided by a
script: the caption that stands in its question, and how often that was asked before.
"""

import asyncio
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

_CAPTION = re.compile(r"<prompt>\n(.*?)\n</prompt>", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """`kind`: answer, status, drop, half, half-chunked, half-close, body, hang."""

    kind: str
    text: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    finish: str = "stop"
    usage: tuple[int, int] | None = (1000, 100)


def answer(text: str = "<answer>[]</answer>", **changes: Any) -> Reply:
    return Reply("answer", text, **changes)


def status(code: int, text: str = "no", **headers: str) -> Reply:
    return Reply("status", text, code, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


class HostileServer:
    """`script(caption, nth)` gives the reply to the nth request (from 0) about a caption. Use as a context manager."""

    def __init__(self, script: Callable[[str, int], Reply]) -> None:
        self._script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.answered: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # it has died before
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def die(self) -> None:
        """Close the port and all connections; called from the script."""
        self._stop.set()

    def _serve(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False where the connection ends with it."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET "):  # who looks whether anybody is there asks no question
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        body = json.loads(await reader.readexactly(length))
        self.headers.append(head)
        self.requests.append(body)
        caption = self._caption(body)
        nth = self._seen[caption]
        self._seen[caption] += 1
        reply = self._script(caption, nth)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._reply(reply, caption, writer)
        finally:
            self.at_once -= 1

    async def _reply(self, reply: Reply, caption: str, writer: asyncio.StreamWriter) -> bool:
        if reply.kind == "hang":
            await self._stop.wait()
            return False
        if reply.kind == "drop":
            writer.transport.abort()
            return False
        payload = (reply.text if reply.kind in ("status", "body") else _completion(reply)).encode()
        lines = [f"HTTP/1.1 {reply.status} X", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if reply.kind.startswith("half"):
            framing = {"half": f"content-length: {len(payload)}", "half-chunked": "transfer-encoding: chunked"}
            lines.append(framing.get(reply.kind, "connection: close"))
            part = payload[: len(payload) // 2]
            if reply.kind == "half-chunked":
                part = f"{len(payload):x}\r\n".encode() + part
            writer.write("\r\n".join([*lines, "", ""]).encode() + part)
            await writer.drain()
            return False
        if reply.kind == "answer":
            self.answered[caption] += 1
        lines.append(f"content-length: {len(payload)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
        await writer.drain()
        return True

    @staticmethod
    def _caption(body: dict[str, Any]) -> str:
        parts = body["messages"][0]["content"]
        text = next(part["text"] for part in parts if part["type"] == "text")
        found = _CAPTION.search(text)
        return found[1] if found else text


def _completion(reply: Reply) -> str:
    usage = None if reply.usage is None else {"prompt_tokens": reply.usage[0], "completion_tokens": reply.usage[1]}
    message = {"role": "assistant", "content": reply.text}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
            "usage": usage,
        }
    )
