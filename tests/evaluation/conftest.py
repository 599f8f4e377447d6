"""Tiny models and tokenizers, made in the process; and what lies beside the checkout."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from tokswap.evaluation.texts import Text

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and then it sleeps under the old tree.",
    "In 1984 there were 365 days and 12 months; 24 hours make one day.\n\n    indented text\n",
    "naïve café, Привет мир, こんにちは 😀, and so on and so forth, again and again.\n",
]


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small lose more to waiting threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder `shared` beside the checkout is missing")
    return SHARED


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=alphabet,
        special_tokens=["<s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def sentencepiece() -> Tokenizer:
    """The form of Llama 2: a dummy space by the normalizer, and no pre-tokenizer."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    trained.train_from_iterator([CORPUS[0].replace(" ", "  ") + CORPUS[1]] * 4, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    unknown = "<unk>"
    tokenizer = Tokenizer(
        models.BPE(
            trained.get_vocab(), merges, unk_token=unknown, fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    return tokenizer


@pytest.fixture(scope="session")
def llama(byte_level: Tokenizer) -> LlamaForCausalLM:
    """A random Llama for the byte-level tokenizer, far from uniform."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=byte_level.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def text_of() -> Callable[..., Text]:
    """Make a text of the given documents, each handed over in chunks of seven characters."""

    def make(*documents: str, name: str = "given") -> Text:
        def chunks(document: str) -> list[str]:
            return [document[i : i + 7] for i in range(0, len(document), 7)]

        return Text(name, lambda: iter([iter(chunks(document)) for document in documents]))

    return make
