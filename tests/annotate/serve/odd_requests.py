"""Requests that a detector's server should answer and survive, by kind; and a run of thousands against a real one.

    python -m tests.annotate.serve.odd_requests --count 10000 --seed 1

starts `sdg serve detector --backend mini` in a process of its own, sends it the requests over sockets, whole ones and
broken ones, and says what it answered, how much memory it took beside its model, and how long another client waited.
"""

import argparse
import asyncio
import base64
import gzip
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
from PIL import Image

from tests.annotate.support import png, question

CONFIG = '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image"/></View>'
FINE = frozenset({100, 200, 307, 400, 401, 404, 405, 408, 411, 413, 414, 415, 422, 431, 503})
PICTURE = png("a red circle")
TEXT = question().text


@dataclass
class Request:
    """A request; `raw` stands for all of it where it is no whole HTTP."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    raw: bytes = b""
    hang_up: bool = False


def url_of(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def chat(url: Any = None, text: Any = TEXT, **more: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url_of(PICTURE) if url is None else url}}]
    return {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}], **more}


def predict(url: Any = None, **more: Any) -> dict[str, Any]:
    data = {"image": url_of(PICTURE) if url is None else url, "prompt": "a red circle"}
    return {"tasks": [{"id": 1, "data": data}], "label_config": CONFIG, **more}


def asked(rng: random.Random, url: str) -> Request:
    if rng.random() < 0.5:
        return Request("/v1/chat/completions", json.dumps(chat(url)).encode())
    return Request("/predict", json.dumps(predict(url)).encode())


def mutated(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """A value of JSON with something in it replaced, removed or repeated."""
    odd: list[Any] = [
        None,
        True,
        -1,
        0,
        1e308,
        10**30,
        "",
        "\ud800",
        "\u0000",
        "x" * 3000,
        [],
        {},
        [[]],
        [{}] * 40,
        {"": ""},
        "data:image/png;base64,AAAA",
        "data:image/png;base64,%%",
        "<a",
        "<|image_pad|>",
        url_of(PICTURE),
    ]
    if rng.random() < 0.15 or depth > 6:
        return rng.choice(odd)
    if isinstance(value, dict):
        changed = {key: mutated(rng, inner, depth + 1) if rng.random() < 0.4 else inner for key, inner in value.items()}
        if changed and rng.random() < 0.2:
            changed.pop(rng.choice(list(changed)))
        if rng.random() < 0.1:
            changed[rng.choice(["n", "stream", "temperature", "max_tokens", "\ud800", "tasks", "id"])] = rng.choice(odd)
        return changed
    if isinstance(value, list):
        return [mutated(rng, inner, depth + 1) for inner in value] * rng.choice([0, 1, 1, 1, 2, 30])
    return value if rng.random() < 0.5 else rng.choice(odd)


def of_mutated_json(rng: random.Random) -> Request:
    path, base = rng.choice([("/v1/chat/completions", chat()), ("/predict", predict())])
    body = json.dumps(mutated(rng, base)).encode()
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        at = rng.randrange(len(body)) if body else 0
        body = body[:at] + bytes([rng.randrange(256)]) + body[at + rng.randrange(3) :]
    return Request(path, body)


def of_structure(rng: random.Random) -> Request:
    many = rng.choice([1000, 200_000, 2_000_000])
    body = rng.choice(
        [
            b"[" * many,
            b'{"a":' * many,
            b"[" + b"[]," * many + b"[]]",
            b"[" + b"1," * many + b"1]",
            b"9" * many,
            b'{"messages":[' + b"{}," * (many // 10) + b"{}]}",
            b'{"tasks":[' + b'{"data":{}},' * 300 + b"{}]}",
            b'{"messages": NaN}',
            b'{"messages":[],"messages":[]}',
            b'"' + b"\\ud83d" * 9 + b'"',
            b"nul",
            b"\x00",
            b"",
            b'{"max_tokens": 1e999, "messages": []}',
            json.dumps(chat("\U0001f600" * 2000)).encode("utf-16"),
            b'"' + "\U0001f600".encode() * (many // 4) + b'"',
            b"\xef\xbb\xbf" + json.dumps(chat()).encode(),
        ]
    )
    return Request(rng.choice(["/v1/chat/completions", "/predict"]), body)


def of_texts(rng: random.Random) -> Request:
    text = rng.choice(
        [
            "x" * rng.choice([65_536, 65_537, 1_000_000]),
            "<|vision_start|><|image_pad|><|vision_end|>" * 50,
            "\u202e" * 900,
            "\ud800",
            "\x00\x1b[2J",
            "\U0001f469\u200d" * 3000,
            "a\u0301" * 9000,
            "{prompt}",
            "%s%n",
            "",
            " ",
            "</prompt>",
        ]
    )
    more: dict[str, Any] = rng.choice([{}, {"model": text[:50]}, {"max_tokens": 10**9}, {"temperature": 0.0}])
    if rng.random() < 0.3:
        turns = [
            {"role": rng.choice(["user", "assistant", "system"]), "content": text} for _ in range(rng.randrange(70))
        ]
        return Request("/v1/chat/completions", json.dumps({"messages": [*chat()["messages"], *turns]}).encode())
    return Request("/v1/chat/completions", json.dumps(chat(text=text, **more)).encode())


def of_pictures(rng: random.Random) -> Request:
    kind = rng.choice(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
    size = rng.choice([(1, 1), (1, 300), (2000, 1), (64, 64), (64, 64), (63, 65), (700, 500)])
    mode = rng.choice(["RGB", "L", "1"] if kind in ("JPEG", "WEBP") else ["RGB", "RGBA", "L", "1", "P"])
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode if kind != "WEBP" else "RGB").save(buffer, kind)
    data = bytearray(buffer.getvalue())
    damage = rng.choice(["none", "cut", "flip", "flip", "more", "swap"])
    if damage == "cut":
        del data[rng.randrange(len(data)) :]
    elif damage == "flip":
        for _ in range(rng.choice([1, 5, 50])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif damage == "more":
        data += rng.randbytes(rng.choice([1, 1000, 500_000]))
    elif damage == "swap":
        at = rng.randrange(len(data))
        data = data[at:] + data[:at]
    return asked(rng, url_of(bytes(data), rng.choice([kind.lower(), "png", "jpeg", "x", "svg+xml"])))


def of_large_pictures(rng: random.Random) -> Request:
    width, height = rng.choice(
        [(6000, 6000), (13_000, 13_000), (39_000_000, 1), (2**31 - 1, 2**31 - 1), (0, 5), (6300, 6300)]
    )
    samples = zlib.compress(bytes((width // 8 + 2) * min(height, 6300)), 9) if width * height < 50_000_000 else b"x"
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", samples), (b"IEND", b"")]
    if rng.random() < 0.5:
        bomb = b"a\0\0" + zlib.compress(bytes(rng.choice([1000, 30_000_000])), 9)
        chunks.insert(1, (rng.choice([b"zTXt", b"iCCP", b"iTXt", b"eXIf"]), bomb))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return asked(rng, url_of(data))


def of_urls(rng: random.Random) -> Request:
    good = url_of(PICTURE)
    url = rng.choice(
        [
            "http://127.0.0.1:1/x.png",
            "file:///etc/passwd",
            "ftp://x",
            good[:-1],
            good + "=",
            good.replace("+", "-"),
            good.upper(),
            good.replace(";base64", ""),
            good.replace(";base64", ";charset=x;base64"),
            good + "\n",
            "data:text/html;base64,AAAA",
            "data:image/png;base64," + "A" * rng.choice([4, 5, 4_000_000]),
            "data:",
            good + "é",
            "data:image/" + "a" * 500_000 + ";base64,AAAA",
            "data:image/png;base64," + "=" * 100_000,
        ]
    )
    return asked(rng, url)


def of_configs(rng: random.Random) -> Request:
    config = rng.choice(
        [
            "<View/>",
            "<View>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><View/>",
            "<a>" * 50_000 + "</a>" * 50_000,
            "x" * 300_000,
            CONFIG.replace("label", "\u202e"),
            CONFIG.replace("image", ""),
            "<RectangleLabels/>",
            "\x00",
            "<?xml version='9'?><a/>",
            CONFIG * 2,
            CONFIG.replace("RectangleLabels", "a:b"),
            "\ufeff" + CONFIG,
        ]
    )
    tasks = rng.choice([[], [{}], [{"data": {"image_id": "../x"}}], predict()["tasks"] * rng.choice([1, 20, 300])])
    return Request("/predict", json.dumps({"tasks": tasks, "label_config": config}).encode())


def of_http(rng: random.Random) -> Request:
    body = json.dumps(chat()).encode()
    kinds: list[Request] = [
        Request("/v1/chat/completions", body, "PUT"),
        Request("/v1/chat/completions", b"", "GET"),
        Request("/", b"", "GET"),
        Request("/%00/../..//etc/passwd", b"", "GET"),
        Request("/v1/models", b"", "HEAD"),
        Request("/health?" + "q=1&" * 900, b"", "GET"),
        Request("/predict", body, headers={"content-type": "multipart/form-data; boundary=x"}),
        Request("/predict", body, headers={"content-type": "application/x-www-form-urlencoded"}),
        Request(
            "/predict", gzip.compress(body), headers={"content-encoding": "gzip", "content-type": "application/json"}
        ),
        Request("/setup", b"\xff" * 500),
        Request("/setup", body),
        Request("/v1/chat/completions", body, headers={}),
        Request("/v1/chat/completions", body, headers={"x-" + "a" * 200: "b" * 3000, "authorization": "Basic /w=="}),
        Request("/health", b"", "OPTIONS"),
        Request("/v1/models", body * 20, "DELETE"),
    ]
    return rng.choice(kinds)


def of_fields(rng: random.Random) -> Request:
    """A request of OpenAI's protocol with fields or messages that this server does not know, or out of range."""
    fields: list[dict[str, Any]] = [
        {"n": rng.choice([0, 2, -1, 1.0, "1", True, None, 10**40])},
        {"stream": rng.choice([True, "false", 0, None, {}])},
        {"stream_options": {"include_usage": True}},
        {"temperature": rng.choice([-1, 2.1, 1e308, "0", True, None, [0]])},
        {"max_tokens": rng.choice([0, -5, 1.5, "8", True, 10**30, None])},
        {"max_completion_tokens": rng.choice([0, 1, 10**18])},
        {"tools": [], "tool_choice": "auto"},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True, "top_logprobs": 20},
        {"stop": ["<answer>"] * 500},
        {"seed": 7, "user": 5},
        {"messages": []},
        {"messages": {}},
        {"messages": chat()["messages"] * 65},
        {"messages": [{"role": rng.choice(["system", "tool", "developer", "", "USER"]), "content": TEXT}]},
        {"messages": [{"role": "user", "content": rng.choice([None, [], "", TEXT, [[]], [{"type": "input_audio"}]])}]},
        {"messages": [{"role": "user", "content": chat()["messages"][0]["content"] * rng.choice([2, 9, 3000])}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url_of(PICTURE)}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}] * 2}]},
        {"messages": [*chat()["messages"], {"role": "assistant", "content": chat()["messages"][0]["content"]}]},
        {
            "messages": [
                *chat()["messages"],
                {"role": "assistant", "content": "<|im_end|>" * 6000},
                chat()["messages"][0],
            ]
        },
    ]
    return Request("/v1/chat/completions", json.dumps({**chat(), **rng.choice(fields)}).encode())


def of_json_beyond_json(rng: random.Random) -> Request:
    """Keys that stand twice, numbers that are none, and depth."""
    body = json.dumps(chat()).encode()
    depth = rng.choice([50, 900, 3000, 90_000])
    inner = b'{"role":"user","content":' + b"[" * depth + b"]" * depth + b"}"
    return Request(
        rng.choice(["/v1/chat/completions", "/predict"]),
        rng.choice(
            [
                body[:-1] + b',"temperature":NaN}',
                body[:-1] + b',"temperature":-Infinity}',
                body[:-1] + b',"max_tokens":1e999}',
                body[:-1] + b',"max_tokens":' + b"9" * 5000 + b"}",
                body[:-1] + b',"messages":' + json.dumps(chat()["messages"]).encode() + b"}",
                body[:-1] + b',"temperature":0.0' * 500 + b"}",
                body[:-1] + b',"user":"' + b"\\u0000" * 900 + b'"}',
                b'{"messages":[' + inner + b"]}",
                b'{"tasks":[{"data":{"image":' + b"[" * depth + b"]" * depth + b"}}]}",
                body + b" " * 1_000_000,
                body + b"{}",
            ]
        ),
    )


def of_picture_headers(rng: random.Random) -> Request:
    """Pictures whose headers claim more than their bytes have, and animations."""
    jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    canvas = struct.pack("<I", 16_383)[:3] * 2
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + canvas + b"VP8 \0\0\0\0"
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, 200_000, 200_000, 1, 24, 0, 0, 0, 0, 0, 0)
    tiff = b"II*\0\x08\0\0\0\x02\0" + b"".join(struct.pack("<HHII", tag, 4, 1, 10**9) for tag in (256, 257)) + bytes(4)
    ppm = b"P6 1000000 1000000 255\n" + bytes(30)
    frames = [Image.new("P", (40, 40), number) for number in range(rng.choice([2, 60]))]
    buffer = io.BytesIO()
    frames[0].save(buffer, rng.choice(["GIF", "PNG"]), save_all=True, append_images=frames[1:])
    kinds = [jpeg, webp, bmp, tiff, ppm, buffer.getvalue(), b"8BPS\0\x01" + bytes(20), b"<svg xmlns='x'/>", b"%PDF-1.7"]
    return asked(rng, url_of(rng.choice(kinds), rng.choice(["png", "jpeg", "webp", "gif", "tiff"])))


def of_odd_heads(rng: random.Random) -> Request:
    """Requests that are HTTP as few clients write it."""
    body = json.dumps(chat()).encode()
    length = f"Content-Length: {len(body)}\r\n\r\n".encode()
    host = b"Host: 127.0.0.1\r\n"
    post, get = b"POST /v1/chat/completions HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\n"
    raw = rng.choice(
        [
            (get + host + b"\r\n") * rng.choice([2, 300]),
            post + host + length + body + get + host + b"\r\n",
            post + host + b"Expect: 100-continue\r\n" + length + body,
            post + length + body,
            post + b"Host: evil.example.net\r\n" + length + body,
            post + host * 2 + length + body,
            b"POST http://elsewhere.example/v1/chat/completions HTTP/1.1\r\n" + host + length + body,
            b"POST /v1/chat/completions HTTP/1.0\r\n" + host + length + body,
            get + host + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"CONNECT example.net:443 HTTP/1.1\r\n" + host + b"\r\n",
            b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n",
            get + host + b"".join(f"x-{number}: y\r\n".encode() for number in range(900)) + b"\r\n",
            get + host + b"X: \xff\xfe\x80\r\n\r\n",
            post + host + b"Content-Type: \xff\r\n" + length + body,
            post + host + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            post + host + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n{\r\n" * 3000 + b"0\r\nX: y\r\n\r\n",
            post + host + b"Transfer-Encoding: chunked\r\n\r\n100000\r\n" + b"{" * 0x100000 + b"\r\n0\r\n\r\n",
        ]
    )
    return Request("", raw=raw)


def of_hang_ups(rng: random.Random) -> Request:
    """A client that sends a question, whole or in part, and is gone before the answer."""
    body = json.dumps(chat() if rng.random() < 0.5 else predict()).encode()
    path = b"/v1/chat/completions" if rng.random() < 0.5 else b"/predict"
    head = b"POST " + path + f" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return Request("", raw=head + body[: rng.choice([0, 9, len(body), len(body)])], hang_up=True)


def of_broken_http(rng: random.Random) -> Request:
    body = json.dumps(chat()).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    raw = rng.choice(
        [
            b"\x16\x03\x01\x02\x00\x01",
            b"GET\r\n\r\n",
            b"POST / HTTP/9.9\r\n\r\n",
            b"\x00" * 500,
            b"A" * 70_000,
            head + b"Content-Length: 99999\r\n\r\n" + body,
            head + b"Content-Length: -5\r\n\r\n" + body,
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body,
            head + b"Content-Length: 9" + b"9" * 400 + b"\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\nabc",
            head + b"X: " + b"a" * 300_000 + b"\r\n\r\n",
            head + b"Content-Length: 3\r\n\r\n{}\n" * 3,
            head,
            head + b"A\r\n\r\n",
            head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: rng.randrange(len(body))],
        ]
    )
    return Request("", raw=raw)


KINDS: dict[str, Callable[[random.Random], Request]] = {
    name.removeprefix("of_"): function for name, function in list(globals().items()) if name.startswith("of_")
}
_BROKEN = frozenset({"broken_http", "odd_heads", "hang_ups"})
_SHARE = {"large_pictures": 0.02, "structure": 0.05, "broken_http": 0.05, "odd_heads": 0.1, "hang_ups": 0.05}


def draw(rng: random.Random, *, whole: bool) -> tuple[str, Request]:
    """(kind, request); `whole`: only what is HTTP, for a client that sends nothing else."""
    names = [name for name in KINDS if not (whole and name in _BROKEN)]
    name = rng.choices(names, [_SHARE.get(name, 0.15) for name in names])[0]
    return name, KINDS[name](rng)


async def _send_raw(port: int, request: Request) -> int:
    """The status of what a server says to bytes; 0 where it hangs up, or where the client does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.raw)
        await writer.drain()
        if request.hang_up:
            writer.transport.abort()
            return 0
        writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), 120)
        match = re.match(rb"HTTP/1\.1 (\d+)", line)
        return int(match[1]) if match else 0
    except (ConnectionError, OSError):
        return 0
    finally:
        writer.close()


async def _hostile(port: int, requests: list[tuple[str, Request]], seen: Counter[tuple[str, int]]) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        while requests:
            kind, request = requests.pop()
            if request.raw:
                status = await _send_raw(port, request)
            else:
                try:
                    reply = await client.request(
                        request.method, request.path, content=request.body, headers=request.headers
                    )
                    status = reply.status_code
                except httpx.TransportError:
                    status = 0
            seen[kind, status] += 1


async def _polite(port: int, times: list[float], until: Callable[[int], bool]) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        while until(len(times)):
            started = time.monotonic()
            reply = await client.post("/v1/chat/completions", json=chat())
            while reply.status_code == 503:
                await asyncio.sleep(float(reply.headers.get("retry-after", "1")))
                reply = await client.post("/v1/chat/completions", json=chat())
            assert reply.status_code == 200, reply.text
            times.append(time.monotonic() - started)


async def _crowd(port: int, size: int) -> None:
    """Hold so many connections on which nothing comes, half a head, or half a body; what is closed is opened again."""
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    async def hold(number: int) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write([b"", b"G", head, head + b"Content-Length: 9999\r\n\r\n{"][number % 4])
                await reader.read()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(1)

    await asyncio.gather(*(hold(number) for number in range(size)))


async def attack(
    port: int, pid: int, count: int, seed: int, at_once: int, crowd: int = 0, minutes: float = 1e9
) -> dict[str, Any]:
    """Send odd requests to a server, with another client beside and a crowd that only holds connections; measure.

    Fewer are sent where the minutes are over before.
    """
    end = time.monotonic() + 60 * minutes
    rng = random.Random(seed)
    process, seen = psutil.Process(pid), Counter[tuple[str, int]]()
    quiet: list[float] = []
    beside: list[float] = []
    await _polite(port, quiet, lambda done: done < 20)
    before = most = process.memory_info().rss
    left = count
    holding = asyncio.create_task(_crowd(port, crowd))
    polite = asyncio.create_task(_polite(port, beside, lambda done: left > 0))
    while left:
        requests = [draw(rng, whole=False) for _ in range(min(left, 100))]
        waves = asyncio.gather(*(_hostile(port, requests, seen) for _ in range(at_once)))
        while not waves.done():
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)
        await waves
        left = max(0, left - 100) if time.monotonic() < end else 0
    await polite
    holding.cancel()
    statuses: Counter[int] = Counter()
    for (_, status), number in seen.items():
        statuses[status] += number
    return {
        "requests": sum(seen.values()),
        "statuses": dict(sorted(statuses.items())),
        "wrong": sorted({f"{kind}: {status}" for kind, status in seen if status and status not in FINE}),
        "memory_above_the_model_mb": round((most - before) / 2**20),
        "quiet_ms": round(1000 * statistics.median(quiet)),
        "beside_ms": round(1000 * statistics.median(beside)),
        "beside_p95_ms": round(1000 * sorted(beside)[int(0.95 * len(beside))]),
        "quiet_p95_ms": round(1000 * sorted(quiet)[int(0.95 * len(quiet))]),
        "answered_beside": len(beside),
    }


def serve(port: int, log: Path | None = None, config: Path | None = None) -> subprocess.Popen[bytes]:
    """A real server of the toy detector, ready to answer; what it says goes into a file."""
    line = [
        sys.executable,
        "-m",
        "sdg_data.cli",
        "--home",
        "/nonexistent",
        *(["--config", str(config)] if config else []),
    ]
    line += ["serve", "detector"]
    with Path(log or os.devnull).open("wb") as said:
        process = subprocess.Popen([*line, "--backend", "mini", "--port", str(port)], stdout=said, stderr=said)
    wait_for(port, process)
    return process


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers, or has ended."""
    while process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server ended with {process.returncode}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1, help="hostile requests under way at a time")
    parser.add_argument("--crowd", type=int, default=400, help="connections that are held without a request")
    parser.add_argument("--minutes", type=float, default=1e9, help="send no more requests after so many")
    parser.add_argument("--max-tokens", type=int, default=2048, help="of an answer: fewer cost the model less")
    given = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log, config = Path(folder) / "log", Path(folder) / "config.toml"
        config.write_text(f'extends = "mini"\n[prelabel]\nmax_tokens = {given.max_tokens}\n', encoding="utf-8")
        server = serve(port, log, config)
        try:
            figures = asyncio.run(
                attack(port, server.pid, given.count, given.seed, given.at_once, given.crowd, given.minutes)
            )
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
        said = log.read_text(encoding="utf-8", errors="replace")
    print(json.dumps({**figures, "tracebacks": said.count("Traceback"), "exit_code": server.returncode}, indent=2))
    if "Traceback" in said:
        print(said[said.index("Traceback") - 500 :][:6000])
