"""A doctor over HTTP, in this process: everything it says under /judge, its boxes under the detector's protocols."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from sdg_data.image_scores import NAMES
from tests.trainers.doctor.test_use import told
from trainers.detector.evaluation import png
from trainers.doctor.loading import load_to_ask
from trainers.doctor.serve import DoctorBackend, doctor_app
from trainers.doctor.use import Doctor

SCORES = dict.fromkeys(NAMES, 0.5)
URL = "data:image/png;base64," + base64.b64encode(png(Image.new("RGB", (64, 96), "red"))).decode()


@pytest.fixture
def served(tiny_doctor: Path) -> tuple[Any, Any, TestClient]:
    model, chat = load_to_ask(str(tiny_doctor), device="cpu")
    doctor = Doctor(model, chat, name=str(tiny_doctor), threshold=0.0)
    return model, chat, TestClient(doctor_app(DoctorBackend(doctor)), base_url="http://127.0.0.1")


def chat_body() -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": URL}}, {"type": "text", "text": "judge: a cat"}]
    return {"model": "doctor", "messages": [{"role": "user", "content": content}]}


def test_everything_it_says(served: tuple[Any, Any, TestClient]) -> None:
    model, chat, client = served
    told(model, chat, [chat.form.render(SCORES, [], None)])
    with client:
        answer = client.post("/judge", json={"prompt": "a cat", "image": URL})
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["scores"] == SCORES
        assert said["reason"] == ""
        assert {defect["type"] for defect in said["defects"]} == {"artifact", "misalignment"}
        data = base64.b64decode(said["heatmaps"]["artifact"].partition(",")[2])
        assert np.asarray(Image.open(io.BytesIO(data))).shape == (24, 16)
        answer = client.post("/v1/chat/completions", json=chat_body())
        assert answer.status_code == 200, answer.text
        boxes = json.loads(answer.json()["choices"][0]["message"]["content"].partition("<answer>")[2].partition("<")[0])
        assert [box["box_2d"] for box in boxes] == [[0, 0, 1000, 1000]] * 2
        assert client.get("/health").json()["status"] == "UP"


def test_silence_is_no_clean_image(served: tuple[Any, Any, TestClient]) -> None:
    model, chat, client = served
    told(model, chat, ["nothing"])
    with client:
        said = client.post("/judge", json={"prompt": "a cat", "image": URL}).json()
        assert said["defects"] is None
        assert said["heatmaps"] == {"artifact": None, "misalignment": None}
        assert "artifact heatmap" in said["reason"]
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 422


@pytest.mark.parametrize(
    "body", [{"prompt": "p"}, {"prompt": "p", "image": "http://x/y.png"}, {"prompt": "p", "image": URL[:60]}, [1]]
)
def test_what_is_no_question_is_refused(served: tuple[Any, Any, TestClient], body: Any) -> None:
    with served[2] as client:
        assert client.post("/judge", json=body).status_code == 400
