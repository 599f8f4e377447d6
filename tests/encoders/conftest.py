"""The real default encoder, loaded once, and small ones with random weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tokswap.encoders import Encoder, open_encoder

SPECIAL = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    encoder = open_encoder()
    encoder.encode(["a"])  # so that it is loaded, whichever test comes first
    return encoder


def small_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter, between [CLS] and [SEP]; it says nothing of how long a text may be."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL.values(), *LETTERS])}
    model = models.WordPiece(
        vocabulary,
        unk_token=SPECIAL["unk"],
        continuing_subword_prefix="",
    )
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": token for name, token in SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights, as transformers saves it: nothing in it says how it pools."""
    folder = tmp_path_factory.mktemp("encoders") / "small-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(LETTERS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_sentence(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as sentence-transformers saves it, with a Dense part and prompts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = tmp_path_factory.mktemp("encoders") / "small-sentence"
    torch.manual_seed(1)
    parts = [Transformer(str(small_bert)), Pooling(16, "mean"), Dense(16, 8), Normalize()]
    prompts = {"query": "q: ", "token": "t: "}
    SentenceTransformer(
        modules=parts, prompts=prompts, default_prompt_name="token", device="cpu"
    ).save(str(folder), create_model_card=False)
    return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that any encoder computes in the test, in order."""
    from tokswap.encoders.plain import PlainEncoder
    from tokswap.encoders.sentence import SentenceEncoder

    seen: list[str] = []

    def counted(run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: Any, texts: list[str]) -> Any:
            seen.extend(texts)
            return run(self, texts)

        return wrapper

    for kind in (PlainEncoder, SentenceEncoder):
        monkeypatch.setattr(kind, "run", counted(kind.run))
    return seen
