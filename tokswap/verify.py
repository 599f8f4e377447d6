"""Looking at what was written from outside: a fresh process loads it with the Auto classes.

A process of its own sees only the folder: no tensor that is still in memory, no tokenizer that is
already built, can stand in for what is not on disk.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokswap.checkpoint.classes import load_and_compare, load_model, run_model
from tokswap.checkpoint.fidelity import read_tokenizer, tokenizer_faults
from tokswap.errors import VerificationError
from tokswap.garbage import collect_seldom
from tokswap.pair import Pair
from tokswap.tokenizer_folder import Settled, load_tokenizer, tokens_to_try

if TYPE_CHECKING:
    Process = subprocess.Popen[str]

PROMPT = "The first argument is the name of"
NEW_TOKENS = 12


@contextmanager
def fresh_process() -> Iterator["Process"]:
    """Start the process that will look at the folder, and end it with the body.

    It knows nothing until it is asked; started early, it imports what it needs meanwhile.

    Yields:
        The process, to be given to :func:`verify`.
    """
    process = subprocess.Popen(
        # -P: the folder that the user stands in may hold a downloaded model's code.
        [sys.executable, "-P", "-m", "tokswap.verify"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):  # a pipe to a process that has ended may be broken
                    pipe.close()


def verify(
    folder: Path,
    pair: Pair,
    *,
    same_dtype: bool,
    tokenizer: Settled | None = None,
    process: "Process | None" = None,
) -> dict[str, Any]:
    """Check a written folder in a fresh process.

    The process loads the tokenizer and the model with the Auto classes, compares token ids with
    tokenizer.json's on a probe text and every special token, compares every copied row with the
    base's bit for bit, and generates a few tokens.

    Args:
        folder: What was written.
        pair: What it was made from.
        same_dtype: Whether the vocabulary tensors are stored in the base's type.
        tokenizer: How the tokenizer was found to load; by AutoTokenizer, if it is not said.
        process: From :func:`fresh_process`; one is started without it.

    Returns:
        What was seen: ``model_class``, ``tokenizer_class``, ``copied_rows``, ``prompt``,
        ``generated``; of a quantised model that cannot be run here, ``not_run`` with the reason.

    Raises:
        VerificationError: If something is not what it should be; the message says what.
    """
    base_rows, source = pair.alignment.base_rows, pair.alignment.source.copy()
    if not pair.layout.tied:
        source[list(pair.alignment.input_source)] = -1  # two tables, two sources
    source[pair.alignment.doubles] = -1
    request = {
        "folder": str(folder),
        "base": str(pair.base.files.path("config.json").parent),
        "tensors": [[tensor.name, tensor.axis] for tensor in pair.layout.tensors],
        "short": [tensor.name for tensor in pair.layout.tensors if tensor.rows < base_rows],
        "base_rows": base_rows,
        "model_class": pair.layout.model_class,
        "same_dtype": same_dtype,
        "loader": tokenizer.loader if tokenizer else "auto",
        "tokens": tokens_to_try(pair),
        "copied": [[number, int(old)] for number, old in enumerate(source) if old >= 0],
        "rows": pair.alignment.rows,
    }
    with nullcontext(process) if process else fresh_process() as checker:
        stdout, stderr = checker.communicate(json.dumps(request))
        code = checker.returncode
    lines = stdout.strip().splitlines()
    if code < 0:
        raise VerificationError(
            f"the process that checks the written checkpoint was ended by "
            f"{signal.Signals(-code).name}, most likely for want of memory; nothing "
            "was kept; --no-verify keeps it unchecked"
        )
    if code != 0 or not lines:
        last = stderr.strip().splitlines()[-1:] or ["no output"]
        raise VerificationError(
            f"the written checkpoint does not load in a fresh process: {last[0]}; nothing was "
            "kept; --no-verify keeps it unchecked"
        )
    seen: dict[str, Any] = json.loads(lines[-1])
    if faults := seen.pop("faults"):
        raise VerificationError(
            "the written checkpoint is not faithful: " + "; ".join(faults) + "; nothing was kept; "
            "--no-verify keeps it unchecked"
        )
    return seen


def _inspect(request: dict[str, Any]) -> dict[str, Any]:
    """Look at the folder; runs in the fresh process."""
    folder = Path(request["folder"])
    tokenizer = load_tokenizer(folder, request["loader"])
    faults = [
        *tokenizer_faults(read_tokenizer(folder), tokenizer, request["tokens"]),
        *_row_faults(folder, request),
    ]
    seen: dict[str, Any] = {
        "tokenizer_class": type(tokenizer).__name__,
        "copied_rows": len(request["copied"]),
        "model_class": None,
        "prompt": "",
        "generated": "",
    }
    if not request["model_class"]:  # transformers has no class for it: a draft model
        return {"faults": faults, **seen}
    try:
        ran, more = _run(folder, tokenizer, request)
    except Exception as error:  # transformers has no common kind for what does not load
        if not _no_fault_of_ours(request):
            raise
        reason = str(error).replace(str(folder), "the folder") or type(error).__name__
        return {"faults": faults, **seen, "not_run": " ".join(reason.split())[:300]}
    return {**seen, **ran, "faults": [*faults, *more]}


def _run(folder: Path, tokenizer: Any, request: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Load the model, look at it and let it generate."""
    model, lacking = load_and_compare(folder, request["model_class"])
    names = {name for name, _ in request["tensors"]}
    faults = [f"the model loads without {name}" for name in sorted(names & lacking)]
    faults += _model_faults(model, request["rows"])
    generated = ""
    if not faults and model.can_generate():
        inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        start = 0 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        generated = tokenizer.decode(ids[0, start:])
    seen = {"model_class": type(model).__name__, "prompt": PROMPT, "generated": generated}
    return seen, faults


def _no_fault_of_ours(request: dict[str, Any]) -> bool:
    """Tell whether a quantised base does not run here either: its result cannot be expected to."""
    import torch

    from tokswap.checkpoint.source import Checkpoint

    if Checkpoint.open(request["base"]).quantisation is None:
        return False
    try:
        model = load_model(Path(request["base"]), request["model_class"])
        run_model(model, torch.tensor([[0, 1]], device=model.device))
    except Exception:  # as above
        return True
    return False


def _row_faults(folder: Path, request: dict[str, Any]) -> Iterator[str]:
    import torch

    from tokswap.checkpoint.source import Checkpoint

    written, base = Checkpoint.open(str(folder)), Checkpoint.open(request["base"])
    new, old = torch.tensor(request["copied"], dtype=torch.int64).reshape(-1, 2).unbind(1)
    for name, axis in request["tensors"]:
        rows, table = (source.load(name).movedim(axis, 0) for source in (written, base))
        if name in request["short"]:  # the first row stands for those behind the end
            rows, table = _whole(rows, request["rows"]), _whole(table, request["base_rows"])
        wanted = table[old]
        if len(rows) != request["rows"]:
            yield f"{name} has {len(rows)} rows instead of {request['rows']}"
            continue
        if not request["same_dtype"]:
            wanted = wanted.to(rows.dtype)
        # Bytes are compared, not numbers: NaN payloads and the sign of zero count.
        if not torch.equal(_bytes(rows[new]), _bytes(wanted)):
            yield f"{name} has copied rows that differ from the base's"


def _bytes(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _whole(table: Any, rows: int) -> Any:
    import torch

    return torch.cat([table, table[:1].expand(max(0, rows - len(table)), *table.shape[1:])])


def _model_faults(model: Any, rows: int) -> Iterator[str]:
    import torch

    with torch.inference_mode():
        found = run_model(model, torch.tensor([[0, rows - 1]], device=model.device))
    embedding = model.get_input_embeddings()
    sizes = {len(embedding.weight)} if hasattr(embedding, "weight") else set()
    sizes |= {found.shape[-1]} if model.get_output_embeddings() is not None else set()
    for size in sizes - {rows}:
        yield f"the model loads with {size} rows instead of {rows}"
        return
    if not bool(torch.isfinite(found).all()):
        yield "the model's logits are not finite"


def main() -> None:
    """Answer one request, read from stdin, on stdout: the fresh process."""
    collect_seldom()
    import transformers

    # What will be needed is imported before the request comes: these bring most of it in.
    from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerFast  # noqa: F401

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    request = sys.stdin.read()
    if not request:  # the process that started this one has given up
        return
    answer = _inspect(json.loads(request))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
