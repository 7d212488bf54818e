"""A doctor of toy size: loading and saving, batches and shapes, and the published layout against a plain statement."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from annotate.vlm.qwen.load import load_model, load_processor
from sdg_data.errors import ConfigError, InputError, ModelError
from tests.annotate import tiny_vlm
from tests.trainers.doctor import published
from trainers.detector.train_config import ModelSettings
from trainers.doctor.convert import UNUSED, from_published, our_name, their_name, to_published
from trainers.doctor.head import HeadShape, HeatmapHead
from trainers.doctor.loading import load_doctor
from trainers.doctor.model import KINDS, TOKENS, Qwen3VLDoctor, add_task_tokens, make_doctor

MIS, ART = (TOKENS[kind] for kind in KINDS)


@pytest.fixture(scope="module")
def doctor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tiny_vlm.save_qwen3(tmp_path_factory.mktemp("doctor") / "base")
    processor = load_processor(str(folder), "qwen3_vl")
    return make_doctor(load_model(str(folder), "float32"), processor.tokenizer, HeadShape.mini()).eval(), processor


def conversation(processor: Any, answers: list[str], sizes: list[tuple[int, int]]) -> Any:
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "look"}]}]
    question = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    images = [Image.effect_noise(size, 90).convert("RGB") for size in sizes]
    texts = [question + answer for answer in answers]
    return processor(text=texts, images=images, padding=True, return_tensors="pt")


def test_a_map_for_each_token_that_is_written_of_any_shape(doctor: tuple[Any, Any]) -> None:
    """Cells: patches of 16 px, merged 2 × 2, doubled three times: 8 cells for 32 px."""
    model, processor = doctor
    inputs = conversation(processor, [f"a{MIS}b{ART}", f"only {ART}", "none"], [(128, 64), (64, 96), (64, 64)])
    with torch.no_grad():
        maps = model.read_maps(**inputs)
    assert {(row, kind): tuple(heat.shape) for row, kind, heat in maps} == {
        (0, 0): (16, 32), (0, 1): (16, 32), (1, 1): (24, 16),
    }  # fmt: skip
    assert all(heat.min() >= 0 and heat.max() <= 1 for _, _, heat in maps)


def test_a_batch_says_what_each_image_says_alone(doctor: tuple[Any, Any]) -> None:
    model, processor = doctor
    together = conversation(processor, [f"a{MIS}b{ART}", f"a longer one {ART}"], [(64, 64), (64, 96)])
    patches = together["image_grid_thw"].prod(1).tolist()
    with torch.no_grad():
        maps = {(row, kind): heat for row, kind, heat in model.read_maps(**together)}
        for row in (0, 1):
            mask = together["attention_mask"][row].bool()
            alone = {
                "input_ids": together["input_ids"][row][mask][None],
                "attention_mask": together["attention_mask"][row][mask][None],
                "mm_token_type_ids": together["mm_token_type_ids"][row][mask][None],
                "pixel_values": together["pixel_values"].split(patches)[row],
                "image_grid_thw": together["image_grid_thw"][row : row + 1],
            }
            for _, kind, heat in model.read_maps(**alone):
                torch.testing.assert_close(heat, maps[row, kind], atol=1e-5, rtol=1e-4)


def test_a_map_depends_on_the_state_before_its_token(doctor: tuple[Any, Any]) -> None:
    """What stands after the token changes nothing; another word before it does; a second token counts for nothing."""
    model, processor = doctor
    answers = [f"abc{ART}", f"abc{ART}xyz{ART}", f"abd{ART}"]
    inputs = conversation(processor, answers, [(64, 64)] * 3)
    each = int(inputs["image_grid_thw"][0].prod())
    inputs["pixel_values"] = inputs["pixel_values"][:each].repeat(3, 1)
    with torch.no_grad():
        first, longer, other = (heat for _, _, heat in model.read_maps(**inputs))
    torch.testing.assert_close(first, longer, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(first, other, atol=1e-5)


def test_it_generates_as_its_base_does(doctor: tuple[Any, Any]) -> None:
    model, processor = doctor
    inputs = conversation(processor, ["a", "bcd"], [(64, 64), (64, 96)])
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=processor.tokenizer.pad_token_id)
    with torch.no_grad():
        logits = model(**inputs).logits[:, -1]
        output = model(**inputs, maps=True)
    assert written[:, inputs["input_ids"].shape[1]].tolist() == logits.argmax(-1).tolist()
    assert torch.equal(output.inner.logits[:, -1], logits)


def test_a_folder_is_an_ordinary_one(doctor: tuple[Any, Any], tmp_path: Path) -> None:
    model, _ = doctor
    model.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    assert isinstance(again, Qwen3VLDoctor)
    mine, theirs = model.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_half_precision_stays_close(doctor: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = doctor
    model.save_pretrained(tmp_path)
    half = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.bfloat16)
    inputs = conversation(processor, [f"a{MIS}b{ART}"], [(64, 96)])
    with torch.no_grad():
        whole, rough = model.read_maps(**inputs), half.read_maps(**inputs)
    for (_, _, heat), (_, _, other) in zip(whole, rough, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(heat, other, atol=0.05, rtol=0)


def test_task_tokens_are_added_once(doctor: tuple[Any, Any]) -> None:
    model, processor = doctor
    rows = model.get_input_embeddings().num_embeddings
    assert add_task_tokens(model, processor.tokenizer) == 0
    assert model.get_input_embeddings().num_embeddings == rows
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.artifact_token_id == processor.tokenizer.convert_tokens_to_ids(ART)


def test_without_task_tokens_a_learned_vector_asks(tmp_path: Path) -> None:
    head = HeatmapHead(HeadShape.mini(task_tokens=False), 64, 64)
    heat = head(torch.tensor([0, 1]), torch.randn(2, 64, 3, 5))
    assert heat.shape == (2, 24, 40)
    assert not torch.allclose(heat[0], heat[1])
    with pytest.raises(ConfigError, match="heads"):
        HeadShape(width=100, heads=8)


def test_a_trained_doctor_gets_another_decoder_and_keeps_everything_else(
    doctor: tuple[Any, Any], tmp_path: Path
) -> None:
    """The ablation without task tokens starts from stage 1, whose decoder reads them."""
    model, processor = doctor
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(json.loads((tmp_path / "config.json").read_text()) | {"heatmap_weight": 7.0})
    )
    settings = ModelSettings(precision="fp32")
    other, _, _ = load_doctor(str(tmp_path), settings, HeadShape.mini(task_tokens=False), seed=0)
    assert isinstance(other, Qwen3VLDoctor)
    assert (model.heatmap.shape.task_tokens, other.heatmap.shape.task_tokens) == (True, False)
    assert other.config.heatmap_weight == 7.0
    before = {name: value for name, value in model.state_dict().items() if not name.startswith("heatmap.")}
    after = {name: value for name, value in other.state_dict().items() if not name.startswith("heatmap.")}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        maps = other.read_maps(**conversation(processor, [f"a{MIS}b{ART}"], [(64, 64)]))
    assert [kind for _, kind, _ in maps] == [0, 1]


WIDTH, MLP = 32, 40


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the published layout: names of transformers 4.49, a flat config, two files."""
    base = tiny_vlm.save_qwen25(tmp_path_factory.mktemp("published") / "base")
    processor = load_processor(str(base), "qwen2_5_vl")
    model = load_model(str(base), "float32")
    add_task_tokens(model, processor.tokenizer)
    processor.save_pretrained(base)
    folder = base.with_name("imagedoctor")
    shutil.copytree(base, folder)
    decoder = published.random_decoder(text=64, image=64, width=WIDTH, mlp=MLP)
    backbone = {}
    for name, weight in model.state_dict().items():
        old = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        backbone[old] = weight.clone()
    (folder / "model.safetensors").unlink()
    save_file(backbone, folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    save_file(decoder, folder / "model-00002-of-00002.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    text = {name: value for name, value in config.pop("text_config").items() if name != "model_type"}
    ids = {f"{kind}_token_id": processor.tokenizer.convert_tokens_to_ids(TOKENS[kind]) for kind in KINDS}
    config |= {**text, **ids, "vocab_size": len(processor.tokenizer), "heatmap_weight": 5.0, "auto_map": {"x": "y.z"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_converted_checkpoint_computes_what_the_plain_statement_says(checkpoint: Path, tmp_path: Path) -> None:
    """States and features are taken from the model; the map is then computed by loops from the published weights."""
    result = from_published(checkpoint, tmp_path / "doctor")
    weights = load_file(checkpoint / "model-00002-of-00002.safetensors")
    assert result["unused"] == 5 + 10
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "doctor", dtype=torch.float32).eval()
    assert model.config.heatmap_weight == 5.0
    assert model.config.auto_map == {}
    processor = load_processor(str(tmp_path / "doctor"), "qwen2_5_vl")
    inputs = conversation(processor, [f"seen{MIS} and {ART}."], [(112, 56)])
    ids = inputs["input_ids"][0].tolist()
    with torch.no_grad():
        maps = {kind: heat for _, kind, heat in model.read_maps(**inputs)}
        states = model.model(**inputs).last_hidden_state[0]
        features = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        rows, columns = (int(side) // 2 for side in inputs["image_grid_thw"][0, 1:])
        for kind, token in enumerate((MIS, ART)):
            place = ids.index(processor.tokenizer.convert_tokens_to_ids(token)) - 1
            expected = published.heatmap(weights, states[place], features, (rows, columns))
            assert expected.std() > 1e-3, "a constant map would prove nothing"
            torch.testing.assert_close(maps[kind], expected, atol=1e-5, rtol=1e-4)


def test_there_and_back_is_the_same_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    from_published(checkpoint, tmp_path / "doctor")
    to_published(tmp_path / "doctor", tmp_path / "back")
    before, after = (
        {name: weight for path in folder.glob("*.safetensors") for name, weight in load_file(path).items()}
        for folder in (checkpoint, tmp_path / "back")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (checkpoint, tmp_path / "back"))
    assert {name: new.get(name) for name in old if name != "auto_map"} == {
        name: value for name, value in old.items() if name != "auto_map"
    }
    index = json.loads((tmp_path / "back" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == before.keys()
    assert (tmp_path / "back" / "tokenizer.json").is_file()


def test_a_doctor_made_here_has_a_published_form(checkpoint: Path, tmp_path: Path) -> None:
    """Without the parts that nobody uses they are written as zeros, under the published names and shapes."""
    from_published(checkpoint, tmp_path / "doctor")
    (tmp_path / "doctor" / UNUSED).unlink()
    to_published(tmp_path / "doctor", tmp_path / "back")
    before, after = (
        {name: weight.shape for path in folder.glob("*.safetensors") for name, weight in load_file(path).items()}
        for folder in (checkpoint, tmp_path / "back")
    )
    assert before == after


def test_every_name_has_a_way_back(checkpoint: Path) -> None:
    for path in checkpoint.glob("*.safetensors"):
        for name in load_file(path):
            ours = our_name(name)
            assert their_name(ours) == name if ours is not None else name.startswith("prompt_encoder.")


def test_what_is_no_imagedoctor_is_refused(checkpoint: Path, doctor: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="misalignment_token_id"):
        from_published(checkpoint.with_name("base"), tmp_path / "out")
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = load_file(broken / "model-00002-of-00002.safetensors")
    weights.pop("heatmap.transformer.layers.1.norm4.bias")
    save_file(weights, broken / "model-00002-of-00002.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 missing, such as .*layers.1.layer_norm4.bias"):
        from_published(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.building").exists()
    with pytest.raises(InputError, match="already"):
        from_published(checkpoint, broken)
    with pytest.raises(InputError, match="cannot read"):
        from_published(tmp_path / "nowhere", tmp_path / "out")
    doctor[0].save_pretrained(tmp_path / "qwen3")
    with pytest.raises(ModelError, match="qwen3_vl_doctor"):
        to_published(tmp_path / "qwen3", tmp_path / "out")


def cut_off(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def header_cut_off(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def another_key(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file({**weights, "heatmap.iou_head.weight": torch.zeros(2)}, folder / "model-00002-of-00002.safetensors")


def another_shape(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    name = "heatmap.transformer.layers.0.norm1.bias"
    save_file({**weights, name: torch.zeros(3)}, folder / "model-00002-of-00002.safetensors")


def without_a_dimension(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    name = "heatmap.mask_tokens.weight"
    save_file({**weights, name: torch.zeros(3)}, folder / "model-00002-of-00002.safetensors")


def packed(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    whole = {name: weight.to(torch.float8_e4m3fn) for name, weight in weights.items()}
    save_file(whole, folder / "model-00002-of-00002.safetensors")


def pickles(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    for path in folder.glob("*.safetensors"):
        torch.save(load_file(path), path.with_suffix(".bin"))
        path.unlink()


def twice(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model-00003-of-00003.safetensors")


def index_of_more(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    places = dict.fromkeys(weights, "model-00003-of-00003.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def index_elsewhere(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../base/model.safetensors"}}')


def no_index(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    (folder / "model.safetensors.index.json").write_text('["weight_map"]')


def changed(**values: Any) -> Any:
    def change(folder: Path, weights: dict[str, torch.Tensor]) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


BROKEN: list[tuple[Any, str]] = [
    (cut_off, "cannot be read"),
    (header_cut_off, "cannot be read"),
    (another_key, r"1 unknown, such as heatmap.iou_head.weight"),
    (another_shape, r"1 of another shape, such as .*layers.0.layer_norm1.bias"),
    (without_a_dimension, "is no ImageDoctor"),
    (packed, "is of float8_e4m3fn"),
    (pickles, "has no .*safetensors"),
    (twice, "in two files"),
    (index_of_more, "1 of its 1 files are not there: model-00003"),
    (index_elsewhere, "are not there: ../base"),
    (no_index, "is no index"),
    (changed(artifact_token_id="x"), "artifact_token_id = 'x'"),
    (changed(misalignment_token_id=10**9), "is no token"),
    (changed(artifact_token_id=True), "is no token"),
    (changed(model_type="llava"), "is a llava"),
    (changed(num_attention_heads=0), "config.json"),
    (changed(vision_config=[1]), "config.json"),
    (changed(hidden_size="wide"), "config.json"),
]


@pytest.mark.parametrize(
    ("change", "words"), BROKEN, ids=[f"{number}-{words}" for number, (_, words) in enumerate(BROKEN)]
)
def test_a_broken_checkpoint_is_refused_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, change: Any, words: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    change(broken, load_file(broken / "model-00002-of-00002.safetensors"))
    with pytest.raises(ModelError, match=words):
        from_published(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_precisions_and_shards_stay_what_they_are(
    checkpoint: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Three shards with an index, and a file beside them that is none of the model's."""
    source = tmp_path / "source"
    shutil.copytree(checkpoint, source, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = {n: w.to(dtype) for path in checkpoint.glob("*.safetensors") for n, w in load_file(path).items()}
    places = {name: f"model-{number % 3}.safetensors" for number, name in enumerate(sorted(weights))}
    for file in set(places.values()):
        save_file({name: weights[name] for name in weights if places[name] == file}, source / file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    save_file({"x": torch.zeros(1)}, source / "consolidated.safetensors")
    from_published(source, tmp_path / "doctor")
    to_published(tmp_path / "doctor", tmp_path / "back")
    back = {n: w for path in (tmp_path / "back").glob("*.safetensors") for n, w in load_file(path).items()}
    assert back.keys() == weights.keys()
    assert all(back[name].dtype == dtype and torch.equal(back[name], weights[name]) for name in weights)
