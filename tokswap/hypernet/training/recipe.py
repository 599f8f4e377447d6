"""What to train, on what, and how long: YAML in, a validated object out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tokswap.errors import RecipeError
from tokswap.methods.asked import fault_line
from tokswap.settings import Names, Part
from tokswap.yaml_text import read_mapping, with_setting

Share = Annotated[float, Field(ge=0.0, allow_inf_nan=False, strict=False)]
Count = Annotated[int, Field(gt=0)]


class SourcePart(Part):
    """Some text to train on."""

    text: Names = Field(default_factory=list, description="text files in UTF-8")
    dataset: str | None = Field(
        default=None, description="a dataset to stream instead, as ID[:CONFIG[:SPLIT]]"
    )
    language: str | None = Field(default=None, description="what the network is told of it")
    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False, strict=False)] = Field(
        default=1.0, description="how often it is taken, beside the other sources"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "SourcePart":
        if bool(self.text) == (self.dataset is not None):
            raise ValueError("give either text files or a dataset")
        return self


class NetworkPart(Part):
    """The sizes of the network."""

    width: int | None = Field(
        default=None,
        gt=0,
        description="D; without it, the base's width, made a multiple of the heads",
    )
    inner: int | None = Field(default=None, gt=0, description="F; without it, twice the width")
    layers: Count = Field(default=3, description="encoder layers")
    heads: int | None = Field(default=None, gt=0, description="without it, one for some 64 of D")
    pieces: Annotated[int, Field(gt=0, le=512)] = Field(
        default=7, description="L, the most pieces of a token that are read"
    )


class TokenizersPart(Part):
    """The tokenizers that are sampled."""

    size: Annotated[int, Field(ge=512)] = Field(
        default=32768, description="tokens of each, 256 single bytes among them"
    )
    batches: Count = Field(default=16, description="batches of text that they are sampled from")
    spread: Annotated[float, Field(ge=0.0, le=20.0, strict=False)] = Field(
        default=4.0, description="standard deviation of the noise's logarithm"
    )
    noise: Share = Field(default=1e-5, description="median of the noise, beside probabilities")
    stride: Count = Field(default=4, description="tokens begin at each so manyth byte of a word")
    copied: Annotated[float, Field(ge=0.0, le=1.0, strict=False)] = Field(
        default=0.0,
        description="share of the steps in which tokens that the base has keep the base's rows, as "
        "they do in a transplant; 0 as published",
    )
    tokens: int | None = Field(
        default=8192,
        gt=0,
        description="tokens of each that a step learns from: those of its texts, and others at "
        "random; null for all",
    )


class LossPart(Part):
    """What is learned: each loss times its weight; 0 leaves it out."""

    text: Share = Field(default=1.0, description="the frozen base's loss on the text")
    auxiliary: Share = Field(
        default=0.5, description="distance to the base's rows, of tokens that the base has too"
    )
    chunks: Share = Field(
        default=0.0,
        description="distance of the likelihoods of chunks of text from those that the base gives "
        "them on its own cut",
    )
    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False, strict=False)] = Field(
        default=100.0, description="by which the likelihoods of chunks are softened"
    )


class OptimizerPart(Part):
    """How weights are moved."""

    rate: Share = Field(default=6e-5, description="the highest learning rate through the base")
    identity_rate: Share = Field(
        default=3e-4, description="the highest one while the base's own rows are learned"
    )
    warm_up: Annotated[int, Field(ge=0)] = Field(
        default=10_000, description="steps in which the rate through the base rises"
    )
    least: Share = Field(default=0.1, description="share of the highest rate at the end")
    clip: Share = Field(
        default=0.1, description="the longest gradient; longer ones are cut; 0 for none"
    )
    weight_decay: Share = Field(default=0.01, description="of all but biases and norms")


class HeldOutPart(Part):
    """How it is measured meanwhile: a tokenizer that is never sampled, a text never trained on."""

    tokenizer: str = Field(description="a tokenizer that the network never saw, by name")
    text: Names = Field(
        default_factory=list, description="text files; without them, the bundled sample"
    )
    language: str | None = Field(
        default=None, description="what the network is told; without it, its first language"
    )
    every: Count = Field(default=500, description="steps between two measurements")
    window: int | None = Field(
        default=None, gt=1, description="tokens seen at once; without it, as `tokswap eval` chooses"
    )


class TrainRecipe(Part):
    """Everything that decides a training."""

    base_model: str = Field(min_length=1, description="the model whose rows are predicted")
    out: str = Field(min_length=1, description="the folder to write")
    sources: list[SourcePart] = Field(
        default_factory=list,
        description="text to train on; without it, the library's sources and documentation that "
        "every Python carries",
    )
    network: NetworkPart = Field(default_factory=NetworkPart, description="sizes of the network")
    tokenizers: TokenizersPart = Field(
        default_factory=TokenizersPart, description="the tokenizers that are sampled"
    )
    loss: LossPart = Field(default_factory=LossPart, description="what is learned")
    optimizer: OptimizerPart = Field(
        default_factory=OptimizerPart, description="how weights are moved"
    )
    held_out: HeldOutPart | None = Field(
        default=None, description="what it is measured on meanwhile"
    )
    identity_steps: Annotated[int, Field(ge=0)] = Field(
        default=10_000, description="steps in which only the base's own rows are learned"
    )
    identity_tokens: Count = Field(default=16_384, description="of the base in each such step")
    steps: Count = Field(default=200_000, description="steps in all")
    texts: Count = Field(default=128, description="texts in a step, over all processes")
    micro_texts: int | None = Field(
        default=None, gt=0, description="texts that go through the base at once; without it, all"
    )
    characters: Count = Field(default=2048, description="length of a text")
    length: Annotated[int, Field(ge=4)] = Field(
        default=128, description="tokens of a text that are read"
    )
    masked: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.15, description="share of the tokens that a base which fills gaps must guess"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="what is computed in; weights stay float32"
    )
    base_dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None,
        description="type of the frozen base; without it, float32 on a CPU, else its own",
    )
    shard: bool = Field(
        default=False, description="share weights and optimizer among the processes"
    )
    report_every: Count = Field(default=50, description="steps between two lines of progress")
    keep_every: Count = Field(default=500, description="steps between two kept states")
    keep: Count = Field(default=2, description="kept states that stay")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of everything that is drawn")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="where to compute: auto, cpu, cuda, cuda:N or mps",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainRecipe":
        if self.identity_steps > self.steps:
            raise ValueError(
                f"identity_steps: {self.identity_steps} are more than {self.steps} steps"
            )
        width, heads = self.network.width, self.network.heads
        if width and heads and width % heads:
            raise ValueError(f"network.heads: {heads} heads do not divide a width of {width}")
        told = [source.language is not None for source in self.sources]
        if any(told) and not all(told):
            raise ValueError("sources: give all of them a language, or none")
        held_out = self.held_out.language if self.held_out else None
        if held_out is not None and held_out not in self.languages:
            raise ValueError(f"held_out.language: {held_out!r} is the language of no source")
        loss = self.loss
        if self.identity_steps < self.steps and not loss.text + loss.auxiliary + loss.chunks:
            raise ValueError("loss: all weights are 0, so nothing is learned; give one")
        return self

    @property
    def languages(self) -> list[str]:
        """The languages that the network is told apart, in the order of the recipe."""
        return list(dict.fromkeys(s.language for s in self.sources if s.language is not None))

    def deciding(self) -> dict[str, Any]:
        """What decides the weights, JSON-ready: all but where and how often something is kept."""
        free = {"out", "report_every", "keep_every", "keep", "held_out", "device"}
        return self.model_dump(mode="json", exclude=free)


def load_train_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, out: str | None = None
) -> TrainRecipe:
    """Read a recipe of a training.

    Args:
        path: The YAML file.
        overrides: ``key.path=value`` settings that replace or add to the file's, values as YAML.
        out: The folder to write, in place of the file's.

    Raises:
        RecipeError: If the file cannot be read, or the recipe is not valid.
    """
    said = read_mapping(Path(path)) | ({} if out is None else {"out": out})
    return make_train_recipe(said, overrides, called=str(path))


def make_train_recipe(
    said: Mapping[str, Any], overrides: Sequence[str] = (), *, called: str = "the request"
) -> TrainRecipe:
    """Validate a recipe of a training.

    Args:
        said: The recipe's keys and values.
        overrides: ``key.path=value`` settings.
        called: What to call the recipe in messages.

    Raises:
        RecipeError: If the recipe is not valid; the message names every fault with its place.
    """
    said = dict(said)
    for override in overrides:
        said = with_setting(said, override)
    try:
        return TrainRecipe(**said)
    except ValidationError as error:
        faults = [
            fault_line(entry, list(TrainRecipe.model_fields)) if entry["loc"] else entry["msg"]
            for entry in error.errors()
        ]
    except TypeError as error:  # keys that are no strings
        faults = [f"keys must be strings ({error})"]
    faults = [fault.removeprefix("Value error, ") for fault in faults]
    between = " " if len(faults) == 1 else "\n  "
    raise RecipeError(between.join([f"{called} is not valid:", *faults]))
