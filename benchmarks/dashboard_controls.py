"""What each control of the dashboards costs the server: 50th and 95th percentile, by control, on a store of any size.

The pages' application is called in this process as a browser calls it, one request at a time, so a figure is the whole
time that the server takes: gradio's part, the queries, and the HTML. What is remembered between requests is remembered
here too; the first of each kind counts like the others. `sdg dashboard` computes the slowest pages of a new snapshot in
advance; that is waited for, and its time is printed.

    python benchmarks/dashboard_controls.py --home DIR [--rounds 40]    # a store of benchmarks/dashboard.py --home DIR

Aim: 95 of 100 under 300 ms. Beside the clock stand CPU seconds of the process, all its threads together, which say more
where the machine is busy. A large comparison that is not remembered is computed beside the page, which asks again each
second: each press and each such question is measured, and how long the figures took is printed below. Functions of the
pages that are not driven are named at the end.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from sdg_data import image_maps
from sdg_data.blobs import Blobs
from sdg_data.dashboard.app import make_app

Took = tuple[float, float]
AIM = 0.3
SESSION = "benchmark"
MAP = "random"
OPENED = (
    "overview", "running", "cards", "map", "ceiling", "annotators", "blind", "evaluation", "refinement", "report",
    "curves", "health",
)  # fmt: skip
"""What pages fill when they are opened."""


class Dashboards:
    """The application with its functions by the control that calls them."""

    def __init__(self, home: Path) -> None:
        began = time.perf_counter(), time.process_time()
        app = make_app(home, Blobs(home / "blobs"), prepare=True)
        self.client = TestClient(app, base_url="http://127.0.0.1")
        app.state.preparation.wait()
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        print(f"start, snapshot and what is computed in advance: {wall:.1f} s, {cpu:.1f} s of CPU", flush=True)
        config = self.client.get("/config").json()
        self.elements = {part["id"]: part["props"].get("elem_id") or "" for part in config["components"]}
        self.initial = {part["id"]: part["props"].get("value") for part in config["components"]}
        self.functions: dict[tuple[str, str], dict[str, Any]] = {}
        self.loads: dict[str, dict[str, Any]] = {}
        self.by_output: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.ids: dict[int, str] = {}
        self.driven = set[int]()
        self.ready: list[str] = []
        for function in config["dependencies"]:
            if not function["backend_fn"]:
                continue
            outputs = [self.elements.get(part, "") for part in function["outputs"]]
            for target, event in function["targets"]:
                self.functions.setdefault((self.elements.get(target, ""), event), function)
                self.by_output |= {(self.elements.get(target, ""), event, name): function for name in outputs}
                self.ids[function["id"]] = f"{event} of {self.elements.get(target, '') or 'the page'}: {outputs[-1]}"
            if [event for _, event in function["targets"]] == ["load"]:
                self.loads |= {name: function for name in OPENED if name in outputs}

    def seconds(self, function: dict[str, Any], changes: dict[str, Any], event: Any = None) -> Took:
        """Call a function with its controls as they stand at first, but for the changes; how long it takes."""
        return self.answer(function, changes, event)[0]

    def answer(self, function: dict[str, Any], changes: dict[str, Any], event: Any = None) -> tuple[Took, list[Any]]:
        """The same, with what it answers."""
        self.driven.add(function["id"])
        data = [changes.get(self.elements[part], self.initial[part]) for part in function["inputs"]]
        body = {"fn_index": function["id"], "data": data, "session_hash": SESSION, "event_data": event}
        answers: list[Any] = []

        def ask() -> Any:
            answers.append(self.client.post("/gradio_api/run/predict", json=body))
            return answers[0]

        took = timed(ask, f"{function['id']} {changes}")
        return took, answers[0].json()["data"]

    def compared(self, name: str, chosen: dict[str, Any]) -> Iterator[tuple[str, Took]]:
        """Press Compare, and ask as the page does until the figures are there."""
        tick = self.by_output["", "tick", "asked"]
        began = time.perf_counter()
        took, (body, asked, _) = self.answer(self.functions["compare", "click"], chosen)
        yield f"Evaluate: Compare {name}", took
        while "Comparing, for" in body:
            time.sleep(1)
            took, (body, _, _) = self.answer(tick, {"asked": asked})
            yield "Evaluate: asked again for a comparison", took
        if 'class="figure"' not in body:
            raise SystemExit(f"{name}: {body[:300]}")
        if asked:
            self.ready.append(f"{name}: {time.perf_counter() - began:.1f} s")

    def fetched(self, address: str) -> Took:
        """How long a figure's data takes."""
        return timed(lambda: self.client.get(address), address)


def timed(ask: Callable[[], Any], what: str) -> Took:
    """(seconds by the clock, of CPU) of a request, which has to be answered."""
    began = time.perf_counter(), time.process_time()
    answer = ask()
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    if answer.status_code != 200:
        raise SystemExit(f"{what}: {answer.status_code} {answer.text[:300]}")
    return took


def calls(boards: Dashboards, rounds: int, rng: random.Random) -> Iterator[tuple[str, Took]]:
    """Every control of every page, `rounds` times with other values."""
    rows = boards.client.get("/data/map-points.json").json()
    ids = [row["image"] for row in rows]
    values: dict[str, list[Any]] = {
        "model": ["flux2-dev", "z-image-turbo", "longcat-image", "sana-1.5-1.6b", "all"],
        "split": ["train", "test", "all"],
        "state": ["accepted", "annotated", "rejected", "prelabelled", "new", "all"],
        "type": ["artifact", "misalignment", "clean", "all"],
        "subtype": ["anatomy", "texture", "edge", "attribute", "style", "all"],
        "tier": ["critical", "major", "minor", "negligible", "all"],
        "label": ["gold", "people", "detector", "all"],
        "composition": ["clean", "artifact only", "misalignment only", "both", "all"],
        "annotator": ["annotator-01", "annotator-05", "annotator-11", "all"],
        "mode": ["prelabelled", "blind", "no prelabel", "review", "all"],
        "agreement": ["several people", "differ", "agree", "all"],
        "sort": ["prompt", "importance", "defects", "newest", "agreement"],
    }
    texts = {
        "words": ["subject 1000", "melts into the wall", "zebra crossing", "red hat", "the left hand", ""],
        "since": ["2026-03-01", "2026-03-20", "2026-04-10"],
        "until": ["2026-03-05", "2026-04-01"],
        "least": ["20", "60", "90"],
        "most": ["30", "70", "100"],
    }
    base: dict[str, Any] = {name: "all" for name in values if name != "sort"} | {
        "failure": "all",
        "list": "all",
        "sort": "prompt",
    }
    base |= {**dict.fromkeys(texts, ""), "page": 1, "rest": ""}
    for name in OPENED:
        if name in boards.loads:
            for _ in range(max(3, rounds // 8)):
                yield f"open the page of {name}", boards.seconds(boards.loads[name], {})
    for name, choices in values.items():
        for place in range(rounds):
            change = {name: choices[place % len(choices)]}
            yield f"Browse: {name}", boards.seconds(boards.functions[name, "input"], {**base, **change})
    for name, choices in texts.items():
        for place in range(rounds):
            change = {name: choices[place % len(choices)]}
            yield f"Browse: {name}", boards.seconds(boards.functions[name, "submit"], {**base, **change})
    pages = max(1, len(ids) // 24)
    for place in range(rounds):
        order = values["sort"][place % 5]
        at = {**base, "page": rng.randint(1, pages), "sort": order}
        yield "Browse: page number", boards.seconds(boards.functions["page", "submit"], at)
        yield "Browse: next", boards.seconds(boards.functions["forth", "click"], at)
        yield "Browse: back", boards.seconds(boards.functions["back", "click"], at)
        image = rng.choice(ids)
        yield "Browse: open an image", boards.seconds(boards.functions["cards", "click"], at, {"image": image})
        step = {"image": image, "step": rng.choice((-1, 1))}
        yield "Browse: next image", boards.seconds(boards.functions["detail", "click"], at, step)
        tag = {"do": "add", "name": "benchmark", "all": False, "ids": rng.sample(ids, min(len(ids), 24))}
        yield "Browse: add 24 to a tag", boards.seconds(boards.functions["choice", "click"], at, tag)
        yield (
            "Browse: a tag's images",
            boards.seconds(
                boards.functions["model", "input"], {**base, "list": "benchmark", "model": values["model"][place % 5]}
            ),
        )
        yield (
            "Map: colour",
            boards.seconds(
                boards.functions["colour", "input"],
                {"which": MAP, "colour": ["composition", "tier", "model", "state", "label", "split"][place % 6]},
            ),
        )
        yield "Map: the points", boards.fetched(f"/data/map.json?map={MAP}&colour=composition")
        yield "Map: the point under the pointer", boards.fetched(f"/data/map-point.json?image={image}")
        x, y = rng.randint(0, 8000), rng.randint(0, 8000)
        corners = ",".join(str(number) for number in (x, y, x + 1500, y, x + 1500, y + 1500, x, y + 1500))
        yield (
            "Map: open what is drawn around",
            boards.seconds(
                boards.functions["model", "input"], {**base, "rest": f"select=lasso&map={MAP}&points={corners}"}
            ),
        )
    for place in range(rounds):
        yield (
            "Overview: whose",
            boards.seconds(boards.functions["whose", "input"], {"whose": ["gold", "people", "detector"][place % 3]}),
        )
    sources = {"gt": "gold", "pred": "prelabel:Qwen/Qwen3-VL-4B-Instruct", "other": "none", "model": "all"}
    for place in range(max(4, rounds // 4)):
        chosen = {**sources, "split": "all", "rules": ["paper", "release"][place % 2]}
        yield from boards.compared("gold and a detector", chosen)
    for model in values["model"][:4]:
        chosen = {**sources, "split": "all", "rules": "paper", "model": model}
        yield from boards.compared("one generator", chosen)
    for truth in ("gold:unreviewed", "annotator:annotator-01"):
        chosen = {**sources, "gt": truth, "split": "all", "rules": "paper"}
        yield from boards.compared("other sources", chosen)
    chosen = {**sources, "other": "annotator:annotator-05", "split": "all", "rules": "paper"}
    yield from boards.compared("two detectors", chosen)
    for name in ("overview", "cards", "map", "ceiling", "annotators", "blind"):
        for _ in range(max(3, rounds // 8)):
            yield f"Refresh: {name}", boards.seconds(boards.by_output["refresh", "click", name], base)
    for place in range(rounds):
        change = {"failure": ["annotate: box-too-small", "all"][place % 2]}
        yield "Browse: failure", boards.seconds(boards.functions["failure", "input"], {**base, **change})
        yield "Overview: the running stages", boards.seconds(boards.by_output["", "tick", "running"], {})


def random_map(home: Path, boards_ids: list[str]) -> None:
    """A map of 30,000 images at the most, so that the page Map has something to draw."""
    if MAP in image_maps.names(home):
        return
    rng, folder = np.random.default_rng(0), home / image_maps.MAPS / MAP
    ids = boards_ids[:30_000]
    middles = rng.normal(size=(12, 32)) * 3
    vectors = (middles[rng.integers(0, 12, len(ids))] + rng.normal(size=(len(ids), 32))).astype(np.float32)
    image_maps.begin(folder, image_maps.About("random", "r1", "noise"))
    image_maps.add_features(folder, ids, vectors)
    image_maps.place(folder, image_maps.PCA, set(ids))


def main() -> int:
    """Measure, print a line a control; 1 if one is over the aim."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    boards = Dashboards(arguments.home)
    listed = boards.client.get("/data/images.txt").text.splitlines()
    random_map(arguments.home, [line for line in listed if not line.startswith("#")])
    rng, took = random.Random(1), dict[str, list[Took]]()
    for name, seconds in calls(boards, arguments.rounds, rng):
        took.setdefault(name, []).append(seconds)
    good = True
    print(f"{'control':44} {'n':>4} {'p50 ms':>8} {'p95 ms':>8} {'p50 CPU':>8} {'p95 CPU':>8}")
    for name, all_of_it in took.items():
        (p50, cpu50), (p95, cpu95) = np.percentile(all_of_it, [50, 95], axis=0)
        good &= bool(p95 < AIM)
        over = "" if p95 < AIM else "  over the aim" if cpu95 >= AIM else "  over the aim by the clock alone"
        milliseconds = " ".join(f"{1000 * value:8.0f}" for value in (p50, p95, cpu50, cpu95))
        print(f"{name:44} {len(all_of_it):4} {milliseconds}{over}")
    for line in boards.ready:
        print(f"  until the figures are there: {line}")
    left = [name for number, name in boards.ids.items() if number not in boards.driven]
    print(f"{len(boards.driven)} functions of {len(boards.ids)}; not driven: {'; '.join(left)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
