"""The wheel in clean venvs, with one extra at a time: what the extra is for runs, and what it is not for says so.

    python -m tests.wheel.clean_venvs --out FOLDER [--extras generate,train] [--pip-option --index-url=…]

builds the wheel, says its size and the weights in it, and makes for each extra a venv that has nothing else. In it the
help of every command is written, the extra's commands run on a home that the venvs share, one after another, and every
other extra's command must end with the exit code of a missing package and a hint, never with a traceback. Needs pip's
index, and some minutes and gigabytes a venv, which is removed when it is done with.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
WEIGHTS = ("generators/mini/weights/", "trainers/detector/mini/weights/", "trainers/paper/boxflow/weights/")
CONSTRAINTS = ROOT / "constraints.txt"
MISSING, PARTIAL = 9, 10


@dataclass(frozen=True)
class Step:
    """A command, the exit codes it may have, and, for a server, the path that must answer while it runs."""

    line: str
    codes: tuple[int, ...] = (0,)
    answers: str = ""


SMALL_ROLLOUT = " ".join(
    f"--set rollout.{change}"
    for change in ("prompts=2", "samples=4", "batch_size=4", "steps=4", "window=[0,3]", "sde_steps=2", "train_steps=1")
)
SMALL = (
    "--set optimizer.batch_size=4 --set optimizer.micro_batch=4 --set saving.report=none --set data.workers=0 "
    "--set data.held_out=0"
)
STEPS: dict[str, tuple[Step, ...]] = {
    "": (
        Step("prompts import {out}/prompts.txt --source wheel"),
        Step("prompts stats"),
        Step("images import {out}/pictures --source wheel"),
        Step("import coco {out}/coco.json --images {out}/pictures --licence x"),
        Step("images sheet --output {out}/sheet.png"),
        Step("export run --unreviewed --output {out}/exports/base --no-phash"),
        Step("export verify {out}/exports/base"),
        Step("eval sources"),
        Step("status"),
        Step("store digest"),
        Step("doctor --profile mini", (0, 9)),
    ),
    "generate": (
        Step("generate run --dry-run"),
        Step("generate run --models mini-flux2,mini-sana --limit 2"),
        Step("generate models"),
        Step("images sheet --output {out}/generated.png"),
        Step("refine editors"),
    ),
    "vlm": (
        Step("prelabel run --limit 4", (0, PARTIAL)),
        Step("prelabel info"),
        Step("images map --model {site}/trainers/detector/mini/weights"),
        Step("serve detector --port {port}", answers="/health"),
    ),
    "annotate": (
        Step("prelabel run --backend openai --model m --base-url {stand_in}/v1 --limit 3"),
        Step("enrich run --unreviewed --backend template --limit 3", (0, PARTIAL)),
        Step("annotate report", (0, 4)),
        Step("annotate status"),
        Step("annotate init", (1, 2, 3, 4)),
    ),
    "dashboard": (Step("dashboard --port {port}", answers="/"),),
    "train": (
        Step(
            "train detector sft --recipe mini --data {out}/exports/base --model {site}/trainers/detector/mini/weights "
            "--out {out}/sft --max-steps 1 --no-trace " + SMALL
        ),
        Step(
            "train detector grpo --recipe mini --data {out}/exports/base --model {site}/trainers/detector/mini/weights "
            "--out {out}/grpo --max-steps 1 --set answers.group=4 " + SMALL
        ),
        Step("train detector eval --data {out}/exports/base --model {out}/sft/model --limit 2 --out {out}/eval"),
        Step(
            "train boxflow --prompts {out}/prompts.txt --out {out}/boxflow --lora 4 --rollouts 1 " + SMALL_ROLLOUT,
        ),
        Step("train boxflow export {out}/boxflow --out {out}/lora"),
        Step("train boxflow --recipe flux1-dev --dry-run --prompts {out}/prompts.txt", (0, 3, 8, 9)),
    ),
    "eval": (Step("eval run --gt gold --pred gold"),),
    "s3": (),
    "ray": (),
}
"""What each extra is for. {site}: its packages' folder, {port}: a free one, {stand_in}: a server that says "clean"."""
NEEDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("generate run --limit 1", frozenset({"generate", "train"})),
    ("prelabel run --limit 1 --retry-failures", frozenset({"vlm", "generate", "train", "eval"})),
    ("serve detector --port {port}", frozenset({"vlm"})),
    ("dashboard --port {port}", frozenset({"dashboard"})),
    ("annotate init", frozenset({"annotate"})),
    ("train detector sft --data {out}/exports/base --model x --out {out}/no --report none", frozenset({"train"})),
    ("train boxflow --prompts {out}/prompts.txt --out {out}/no --rollouts 1", frozenset({"train", "generate"})),
    ("eval run --gt gold --pred gold --similarity nobody/nothing", frozenset({"eval"})),
    ("export run --unreviewed --output s3://nobody/nothing", frozenset({"s3"})),
    ("serve rewards --port {port}", frozenset({"vlm", "annotate", "dashboard", "train", "generate"})),
)
"""Commands that need an extra, and the extras with which they get further; with any other they say what is missing."""
IMPORTS = {
    "s3": "import s3fs",
    "ray": "import ray",
    "eval": "import sentence_transformers",
    "train": "import exports.read.webdataset, webdataset, trl, peft, torchdata, tensorboard",
}


HELP = """
import contextlib, io
from typer.main import get_group
from sdg_data.cli import app
from sdg_data.errors import MissingDependency

def walk(name, parser, parent):
    context = parser.context_class(parser, info_name=name, parent=parent)
    with contextlib.redirect_stdout(io.StringIO()):
        parser.get_help(context)
    for child in getattr(parser, "commands", ()):
        try:
            _, command, _ = parser.resolve_command(context, [child])
        except MissingDependency as error:
            print(error)
        else:
            walk(child, command, context)

walk("sdg", get_group(app), None)
"""
"""Makes the help of every command; prints what those say whose module needs another extra."""


class Wrong(Exception):
    """A command did something else than it should."""


def build(out: Path) -> Path:
    """The wheel; says its size and the weights in it."""
    shutil.rmtree(out / "dist", ignore_errors=True)
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out / "dist"), str(ROOT)]
    subprocess.run(line, check=True)
    [wheel] = (out / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for folder in WEIGHTS:
            weights = [
                entry for entry in entries if entry.filename.startswith(folder) and "safetensors" in entry.filename
            ]
            if not weights:
                raise Wrong(f"the wheel has no weights in {folder}")
            print(f"{folder}: {len(weights)} files of weights, {sum(e.file_size for e in weights) / 1e6:.1f} MB")
        if any(name.startswith(("tests/", "benchmarks/", "docs/")) for name in names):
            raise Wrong("the wheel has tests, benchmarks or docs at its top")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(names)} files")
    return wheel


def fill(out: Path) -> None:
    """What is brought in: prompts, and pictures with boxes in COCO's form."""
    folder = out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    images, boxes = [], []
    for number in range(12):
        picture = Image.new("RGB", (64, 64), (230, 230, 230))
        ImageDraw.Draw(picture).ellipse((10, 10 + number, 40, 40 + number), fill=(200, 20 * number, 40))
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a red circle, number {number}", encoding="utf-8")
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": 64, "height": 64, "prompt": f"a red circle, {number}"}
        )
        box = {"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": [10, 10, 30, 20]}
        boxes.append({**box, "area": 600, "iscrowd": 0, "reason": "a dent in the rim"})
    categories = [{"id": 1, "name": "artifact"}, {"id": 2, "name": "misalignment"}]
    value = {"images": images, "annotations": boxes, "categories": categories}
    (out / "coco.json").write_text(json.dumps(value), encoding="utf-8")
    (out / "prompts.txt").write_text("a red circle\na blue square above a green star\n", encoding="utf-8")


@contextmanager
def stand_in() -> Iterator[str]:
    """A server that answers every question with "no defects", and anything else with 404."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            message = {"role": "assistant", "content": "<answer>[]</answer>"}
            value = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
            self.reply(200 if self.path.endswith("/chat/completions") else 404, json.dumps(value).encode())

        def do_GET(self) -> None:
            self.reply(404, b"{}")

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Venv:
    """A venv with the wheel and one extra."""

    def __init__(self, folder: Path, wheel: Path, extra: str, pip_options: list[str], stand_in: str) -> None:
        self.folder, self.extra, self.stand_in = folder, extra, stand_in
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        line = [self.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*line, *pip_options, "-c", str(CONSTRAINTS), what], check=True)
        self.site = self.python("import schemas; print(schemas.__path__[0].rpartition('/')[0])", folder).strip()
        if not self.site.startswith(str(folder)):
            raise Wrong(f"the packages come from {self.site}, not from {folder}")

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def environment(self) -> dict[str, str]:
        """The runner's, without what would let its own packages in."""
        left_out = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "SDG_HOME", "PROFILE")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        label_studio = {"LABEL_STUDIO_URL": self.stand_in, "LABEL_STUDIO_API_KEY": "x"}
        return {
            **kept,
            **label_studio,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def python(self, code: str, out: Path) -> str:
        """What a line of Python prints there."""
        return self.output([self.program("python"), "-c", code], out)

    def output(self, line: list[str], out: Path) -> str:
        done = subprocess.run(line, cwd=out, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Wrong(f"{' '.join(line)[:200]}: {done.stderr[-2000:]}")
        return done.stdout

    def run(self, step: Step, out: Path, words: dict[str, str]) -> str:
        """Run one of `sdg`'s commands; returns what it said where that was right."""
        port = free_port()
        words = {**words, "site": self.site, "port": str(port)}
        line = [self.program("sdg"), "--home", str(out / "home"), *step.line.format(**words).split()]
        with (out / "last.log").open("w+", encoding="utf-8") as log:
            process = subprocess.Popen(line, cwd=out, env=self.environment(), stdout=log, stderr=log)
            try:
                reply = answered(port, step.answers, process) if step.answers else process.wait(1800)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(120)
            log.seek(0)
            said = log.read()
        if reply not in ((200,) if step.answers else step.codes) or "Traceback (most recent call last)" in said:
            raise Wrong(f"sdg {step.line}: {reply}, not {step.codes}\n{said[-3000:]}")
        return said


def answered(port: int, path: str, process: subprocess.Popen[bytes]) -> int:
    """The status of a server's answer, or its exit code where it ended first."""
    for _ in range(1800):
        if process.poll() is not None:
            return process.returncode
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
                return int(reply.status)
        except OSError:
            time.sleep(0.2)
    return 0


def try_extra(venv: Venv, out: Path, words: dict[str, str]) -> list[str]:
    """What is wrong with the wheel and this one extra."""
    wrong: list[str] = []

    def attempt(name: str, call: Callable[[], object]) -> None:
        started = time.monotonic()
        try:
            call()
        except Wrong as error:
            wrong.append(f"[{venv.extra or 'no extra'}] {error}")
            print(f"  WRONG {name}\n{error}", flush=True)
        else:
            print(f"  {name} ({time.monotonic() - started:.0f} s)", flush=True)

    attempt("help of every command", lambda: has_help(venv, out))
    if venv.extra in IMPORTS:
        attempt(IMPORTS[venv.extra], lambda: venv.python(IMPORTS[venv.extra], out))
    for step in STEPS[venv.extra]:
        attempt(step.line.split(" --set")[0], lambda step=step: venv.run(step, out, words))  # type: ignore[misc]
    for line, extras in NEEDS:
        if venv.extra not in extras:
            attempt(f"without its extra: {line}", lambda line=line: refused(venv, line, out, words))  # type: ignore[misc]
    return wrong


def has_help(venv: Venv, out: Path) -> None:
    """Every command has its help, or names an extra that is not there: never the one that is."""
    said = venv.python(HELP, out)
    own = f"sdg-data[{venv.extra}]" if venv.extra else "'sdg-data'"
    if own in said:
        raise Wrong(f"a command wants what is there:\n{said}")


def refused(venv: Venv, line: str, out: Path, words: dict[str, str]) -> None:
    """A command without its extra ends with the code of a missing package, and says what to install."""
    said = venv.run(Step(line, (MISSING,)), out, words)
    if not re.search(r"pip install '?sdg-data\[\w+", said):
        raise Wrong(f"sdg {line}: no hint\n{said[-1500:]}")


def main() -> int:
    """Try the extras; returns 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for wheel, venvs, home and logs")
    parser.add_argument("--extras", default=",".join(STEPS), help="by comma; an empty name is the base install")
    parser.add_argument("--pip-option", action="append", default=[], help="such as --find-links=FOLDER")
    parser.add_argument("--keep", action="store_true", help="leave the venvs")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    fill(out)
    wheel = build(out)
    wrong: list[str] = []
    with stand_in() as address:
        for extra in given.extras.split(","):
            print(f"[{extra or 'no extra'}]", flush=True)
            folder = out / f"venv-{extra or 'base'}"
            venv = Venv(folder, wheel, extra, given.pip_option, address)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
            print(f"  a venv of {size / 1e9:.2f} GB", flush=True)
            wrong += try_extra(venv, out, {"out": str(out), "stand_in": address})
            if not given.keep:
                shutil.rmtree(folder)
    print("\n".join(["", "What is wrong:", *wrong]) if wrong else "all as it should be")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
