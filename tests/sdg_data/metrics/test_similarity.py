"""Similarities against counters, and the embedding path with vectors one can check by hand."""

import builtins
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.metrics.similarity import (
    LEXICAL,
    LexicalSimilarity,
    SentenceSimilarity,
    cosine_and_f1,
    similarity_named,
    token_f1,
)
from sdg_data.metrics.word_overlap import ASCII_WORDS, UNICODE_WORDS, overlap
from tests.sdg_data.metrics import naive

WORDS = [
    "a",
    "A",
    "hand",
    "HAND",
    "six6",
    "x" * 8,
    "x" * 9,
    "x" * 16,
    "x" * 17,
    "x" * 40,
    "y" + "x" * 39,
    "-",
    "_",
    ".",
    "\n",
    "<b>",
    "<a",
    "c>",
    "<>",
]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
ANY_ASCII = st.text(st.characters(max_codepoint=127), max_size=40)


@settings(deadline=None)
@given(st.lists(st.tuples(SENTENCES | ANY_ASCII, SENTENCES | ANY_ASCII), max_size=8))
def test_ascii_pairs_equal_the_counters(pairs: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    assert LexicalSimilarity().pairs(first, second).tolist() == pytest.approx([naive.cosine(a, b) for a, b in pairs])
    assert token_f1(first, second).tolist() == pytest.approx([naive.token_f1(a, b) for a, b in pairs])
    together = cosine_and_f1(first, second, LexicalSimilarity())
    assert together[0].tolist() == LexicalSimilarity().pairs(first, second).tolist()
    assert together[1].tolist() == token_f1(first, second).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=6))
def test_any_text_is_symmetric_bounded_and_like_itself(pairs: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    for measure in (LexicalSimilarity().pairs, token_f1):
        forth = measure(first, second)
        assert np.array_equal(forth, measure(second, first))
        assert ((forth >= 0) & (forth <= 1)).all()
        assert np.allclose(measure(first, first), 1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(ANY_ASCII, ANY_ASCII), min_size=1, max_size=4))
def test_the_array_way_equals_the_dictionary_way(pairs: list[tuple[str, str]]) -> None:
    plain = overlap([a for a, _ in pairs], [b for _, b in pairs])
    # One character that is no word sends a pair the other way.
    patient = overlap([a + " …" for a, _ in pairs], [b for _, b in pairs], ASCII_WORDS)
    for name, values in vars(plain).items():
        assert np.array_equal(values, getattr(patient, name)), name


@pytest.mark.slow
def test_many_pairs_of_very_different_length() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:9], size)) for size in [0, 1, 3, 30, 300, 3000] * 900]
    first, second = texts, list(rng.permutation(texts))
    figures = token_f1(first, second)
    for row in rng.integers(0, len(texts), 200).tolist():
        assert figures[row] == pytest.approx(naive.token_f1(first[row], second[row]))


def test_by_hand() -> None:
    same = LexicalSimilarity()
    assert same("Six fingers, six!", "six fingers") == pytest.approx(3 / (5**0.5 * 2**0.5))
    assert token_f1(["Six fingers, six!"], ["six fingers"])[0] == pytest.approx(2 * 2 / 5)
    assert [same("", ""), same("", "a"), same("!", "?")] == [1.0, 0.0, 1.0]
    assert token_f1(["手", ""], ["指", "a"]).tolist() == [1.0, 0.0]  # the release's has no word outside a–z and 0–9
    assert same("手指六根", "手指五根") == pytest.approx(3 / 4)
    assert same("Café", "CAFÉ") == 1.0
    assert Counter(UNICODE_WORDS.findall("手指x1 é_a한국")) == Counter(["手", "指", "x1", "é", "a", "한", "국"])


def test_long_words_are_told_apart() -> None:
    stem = "abcdefgh" * 5
    words = [stem, stem + "a", "b" + stem, stem[:-1] + "z", "z" + stem[1:], stem[:16], stem[:8], stem[:9]]
    for a in words:
        assert [token_f1([a], [b])[0] for b in words] == [float(a == b) for b in words]


def test_unequal_numbers_of_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 texts against 1"):
        LexicalSimilarity().pairs(["a", "b"], ["a"])


# --- embeddings


class Vectors(SentenceSimilarity):
    """Embeds a text as the two numbers it consists of; remembers what it was asked."""

    asked: list[list[str]]

    def encode(self, texts: Sequence[str]) -> Any:
        self.asked = [*getattr(self, "asked", []), list(texts)]
        return np.array([[float(number) for number in text.split()] for text in texts])


def test_embeddings_give_cosines_and_each_text_is_embedded_once() -> None:
    measure = Vectors("two numbers")
    similarities = measure.pairs(["1 0", "1 0", "3 4", "0 0", "1 0"], ["0 2", "5 0", "4 3", "1 0", "-1 0"])
    assert similarities.tolist() == pytest.approx([0, 1, 24 / 25, 0, -1])
    assert [sorted(texts) for texts in measure.asked] == [sorted({"1 0", "0 2", "5 0", "3 4", "4 3", "0 0", "-1 0"})]
    assert measure.pairs([], []).size == 0
    assert measure("1 0", "1 1") == pytest.approx(0.5**0.5)


def test_the_library_is_loaded_late_and_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "sentence_transformers":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    measure = similarity_named("some/model")
    with pytest.raises(MissingDependency, match="sentence-transformers"):
        measure.pairs(["a"], ["b"])
    assert similarity_named(LEXICAL).name == "lexical"


def test_a_real_sentence_transformers_model(tmp_path: Any) -> None:
    """A random BERT of 16 dimensions, saved and loaded by name as any other; skipped without the library."""
    library = pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "six", "fingers", "hand", "green"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    measure = SentenceSimilarity(str(tmp_path), device="cpu")
    similarities = measure.pairs(["six fingers", "hand", "six fingers"], ["six fingers", "green", "hand"])
    model = library.SentenceTransformer(str(tmp_path), device="cpu")
    vectors = {text: model.encode(text) for text in ("six fingers", "hand", "green")}

    def cosine(a: str, b: str) -> float:
        return float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))

    assert similarities.tolist() == pytest.approx(
        [1.0, cosine("hand", "green"), cosine("six fingers", "hand")], abs=1e-5
    )
    assert "sentence_transformers" in sys.modules


def test_the_papers_embedding_takes_the_mean_of_the_states(tmp_path: Any) -> None:
    """Against the mean over each text's own tokens, computed alone and without padding."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["hand", "has", "six", "fingers", "the", "a"]
    plain = Tokenizer(models.WordLevel({word: index for index, word in enumerate(["[UNK]", "[PAD]", *words])}, "[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]")
    config = transformers.Qwen3Config(
        vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Qwen3Model(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    long = " ".join(["hand", "fingers"] * 200)
    texts = ["the hand", "the hand has six fingers", long, "a"]
    similarity = similarity_named(f"mean:{tmp_path}")
    assert similarity.name == f"mean:{tmp_path}"
    alone = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :256]
        with torch.no_grad():
            alone.append(model(ids).last_hidden_state[0].mean(0))
    for first in range(len(texts)):
        for second in range(len(texts)):
            expected = float(torch.nn.functional.cosine_similarity(alone[first], alone[second], dim=0))
            assert similarity.pairs([texts[first]], [texts[second]])[0] == pytest.approx(expected, abs=1e-5)
    assert len(similarity.pairs([], [])) == 0
    with pytest.raises(ConfigError, match="cannot load the embedding model"):
        similarity_named("mean:/nowhere/at/all").pairs(["a"], ["b"])
