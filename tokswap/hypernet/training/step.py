"""One step of a training: rows are predicted once, the base is run in parts, weights move."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokswap.errors import TrainingError
from tokswap.hypernet.network import Hypernet, Predicted
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.losses import (
    chunk_divergences,
    chunk_sums,
    row_distances,
    token_nats,
)
from tokswap.hypernet.training.optimizer import rate_at
from tokswap.hypernet.training.prepared import Chunked, Identity, Prepared
from tokswap.hypernet.training.processes import Processes, whole
from tokswap.hypernet.training.recipe import TrainRecipe


@dataclass(frozen=True)
class Taken:
    """What a step has shown.

    Attributes:
        step: Its number.
        loss: What was minimised.
        parts: The losses that it is the weighted sum of.
        bits_per_byte: Of the step's texts under its tokenizer; None without texts.
        gradient: Length of the gradient, before it was cut.
        rate: The learning rate.
        tokens: Tokens of text that were predicted, or rows where there was no text.
    """

    step: int
    loss: float
    parts: dict[str, float]
    bits_per_byte: float | None
    gradient: float
    rate: float
    tokens: int


@dataclass(eq=False)
class Stepper:
    """Takes steps.

    Attributes:
        recipe: The training.
        network: What is trained.
        base: What it is trained through.
        optimizer: What moves the weights.
        processes: Who takes part.
    """

    recipe: TrainRecipe
    network: Hypernet
    base: FrozenBase
    optimizer: torch.optim.AdamW
    processes: Processes

    def __post_init__(self) -> None:
        source, width = self.base.source, self.base.width
        self._lengths = (
            float(source[:, :width].norm(dim=1).mean()),
            float(source[:, -width:].norm(dim=1).mean()),
        )
        # Where nothing stands before a text, its first chunk is not predicted as a whole.
        self._first = 0 if self.base.before else 1
        self._parameters = [p for p in self.network.parameters() if p.requires_grad]

    def take(self, prepared: Identity | Prepared) -> Taken:
        """Take a step.

        Raises:
            TrainingError: If the loss or the gradient is not finite; no weight has moved then.
        """
        rate = rate_at(prepared.step, self.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        if isinstance(prepared, Identity):
            parts, weights = {"identity": self._identity(prepared)}, {"identity": 1.0}
            bits, tokens = None, len(prepared.ids)
        else:
            said = self.recipe.loss
            weights = {"text": said.text, "auxiliary": said.auxiliary, "chunks": said.chunks}
            parts, tokens = self._through_base(prepared), int(prepared.wanted.sum())
            bits = parts["text"] * tokens / max(prepared.bytes, 1) / math.log(2)
        loss = sum(weights[name] * value for name, value in parts.items())
        self.processes.add_gradients(self._parameters)
        gradient = self._gradient()
        if not math.isfinite(loss) or not math.isfinite(gradient):
            what = "loss" if not math.isfinite(loss) else "gradient"
            value = loss if what == "loss" else gradient
            raise TrainingError(f"the {what} of step {prepared.step:,} is not finite ({value})")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return Taken(prepared.step, loss, parts, bits, gradient, rate, tokens)

    def _gradient(self) -> float:
        """Measure the gradient, and cut it where it is too long."""
        clip = self.recipe.optimizer.clip or math.inf
        return float(whole(nn.utils.clip_grad_norm_(self._parameters, clip)))

    def _predicted(self, forms: Tensor, language: int | None) -> Predicted:
        with self.processes.autocast():
            found = self.network(forms, self.base.source, language)
        return Predicted(*(None if t is None else t.float() for t in vars(found).values()))  # type: ignore[arg-type]

    def _identity(self, prepared: Identity) -> float:
        """Learn the base's own rows from themselves."""
        device, count = self.processes.device, len(prepared.ids)
        ids = prepared.ids[self.processes.part(count)].to(device)
        # The languages take turns.
        count_of = self.network.config.languages
        language = prepared.step % count_of if count_of else None
        predicted = self._predicted(ids[:, None], language)
        loss = row_distances(predicted, *self.base.own(ids)).sum() / count
        torch.autograd.backward(loss)
        return float(self.processes.add(loss.detach()))

    def _through_base(self, prepared: Prepared) -> dict[str, float]:
        """Learn from texts through the base; the gradients of the rows are added up first."""
        processes, count = self.processes, len(prepared.forms)
        device, part = processes.device, processes.part(count)
        predicted = self._predicted(prepared.forms[part].to(device), prepared.language)
        outputs, bias = predicted.outputs, predicted.bias if "bias" in self.base.names else None
        parts = [rows for rows in (predicted.inputs, outputs, bias) if rows is not None]
        kept = prepared.own if prepared.copied else torch.full_like(prepared.own, -1)
        kept = kept.to(device)
        tables = [
            self._table(rows, own, kept) for rows, own in zip(parts, self.base.tables, strict=True)
        ]
        named = dict(zip(self.base.names, tables, strict=True))
        fine = torch.float32 if device.type == "mps" else torch.float64  # which that lacks
        sums = torch.zeros(2, device=device, dtype=fine)
        for loss, seen in self._losses(prepared, named):
            torch.autograd.backward(loss)
            sums += seen
        auxiliary = self._auxiliary(predicted, prepared, part)
        roots: list[Tensor] = []
        gradients: list[Tensor | None] = []
        for rows, leaf in zip(parts, tables, strict=True):
            if leaf.grad is not None:
                found = processes.add(leaf.grad)[:count]
                found[kept >= 0] = 0.0
                roots, gradients = [*roots, rows], [*gradients, found[part]]
        weight = self.recipe.loss.auxiliary
        if weight:
            roots, gradients = [*roots, weight * auxiliary], [*gradients, None]
        torch.autograd.backward(roots, gradients)
        text, chunks = processes.add(sums).tolist()
        losses = {"text": text, "auxiliary": float(processes.add(auxiliary.detach()))}
        return losses | ({"chunks": chunks} if prepared.chunked else {})

    @torch.no_grad()
    def _table(self, rows: Tensor, own: Tensor, kept: Tensor) -> Tensor:
        """Put the parts of all processes together, and the base's own rows where they stay.

        Args:
            rows: (K', …) this process's part.
            own: (V, …) the base's.
            kept: (K,) the base's id of each token that keeps its row; -1 for the others.

        Returns:
            (K + special tokens, …), a leaf whose gradient is asked for.
        """
        made = self.processes.gather(rows, len(kept)).clone()
        stays = kept >= 0
        made[stays] = own[kept[stays]].to(made.dtype)
        special = own[torch.tensor(self.base.special, device=own.device).long()]
        return torch.cat([made, special.to(made.dtype)]).requires_grad_()

    def _auxiliary(self, predicted: Predicted, prepared: Prepared, part: slice) -> Tensor:
        """Distance to the base's rows, of this process's tokens that the base has too."""
        own = prepared.own[part].to(self.processes.device)
        there = own >= 0
        inputs, outputs = self.base.own(own.clamp(min=0))
        distances = row_distances(predicted, inputs, outputs, self._lengths)
        return distances[there].sum() / max(int((prepared.own >= 0).sum()), 1)

    def _losses(
        self, prepared: Prepared, tables: Mapping[str, Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Run the base on this process's texts, some at a time.

        Yields:
            What is to be minimised, and the sums of the losses that are shown.
        """
        said, device = self.recipe.loss, self.processes.device
        tokens = max(int(prepared.wanted.sum()), 1)
        chunked = prepared.chunked
        count = max(int((chunked.counts - self._first).clamp(min=0).sum()), 1) if chunked else 1
        for rows, share in self._micro(len(prepared.ids)):
            ids, targets, wanted, there = (
                t[rows].to(device)
                for t in (prepared.ids, prepared.targets, prepared.wanted, prepared.there)
            )
            with self.processes.autocast():
                logits = self.base.logits(
                    ids, tables["input"], tables.get("output"), tables.get("bias"), there
                )
            nats = token_nats(logits, targets, wanted)
            text = share * nats.sum() / tokens
            loss, chunks = said.text * text, text.new_zeros(())
            if chunked is not None:
                chunks = share * self._chunks(nats, chunked, rows) / count
                loss = loss + said.chunks * chunks
            yield loss, torch.stack([text, chunks]).detach()

    def _micro(self, count: int) -> Iterator[tuple[slice, float]]:
        """Deal out this process's texts, so many at a time, and say how much they count.

        All processes must run the base, and equally often where it is shared: one that has no texts
        left reads the first once more, for nothing.
        """
        mine = self.processes.part(count)
        step = self.recipe.micro_texts or count
        most = max(mine.stop - mine.start, 1)
        most = -(-count // self.processes.world) if self.processes.shard else most
        for start in range(mine.start, mine.start + most, step):
            if start < mine.stop:
                yield slice(start, min(start + step, mine.stop)), 1.0
            else:
                yield slice(0, 1), 0.0

    def _chunks(self, nats: Tensor, chunked: Chunked, rows: slice) -> Tensor:
        """Compare the likelihoods of chunks with those that the base gives them."""
        device = self.processes.device
        ids, given, chunks, counts = (
            t[rows].to(device) for t in (chunked.ids, chunked.given, chunked.chunks, chunked.counts)
        )
        most = max(int(counts.max()), 1)
        with self.processes.autocast():
            logits = self.base.plain_logits(ids[:, :-1])
        own = token_nats(logits, ids[:, 1:], given >= 0)
        wanted, found = chunk_sums(own, given, most), chunk_sums(nats, chunks, most)
        places = torch.arange(most, device=device)
        there = (places >= self._first) & (places < counts[:, None])
        return chunk_divergences(found[there], wanted[there], self.recipe.loss.temperature).sum()
