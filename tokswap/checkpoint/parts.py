"""Tensors of files that are not here whole: their bytes alone, fetched once and kept.

They are kept where the Hub's client has libraries keep what they fetch beside whole files
(``HF_ASSETS_CACHE``), by repository and commit, so that a second run with other settings fetches
nothing. Each is a safetensors file of one tensor, so it is loaded as any other, and appears whole
or not at all: like the Hub's client, a fetch that failed begins the tensor anew, for a file that
two processes append to would be damaged unseen.
"""

import hashlib
import re
import secrets
from pathlib import Path

from tokswap.checkpoint.files import Files
from tokswap.checkpoint.header import Header, TensorInfo, pack_header, read_header
from tokswap.errors import CheckpointError, NameUnknownError
from tokswap.progress import bar

BLOCK = 16 << 20
"""Bytes of one request; what a cut connection costs at most."""


def tensor_file(files: Files, shard: str, name: str, header: Header) -> Path:
    """Path of a local file that holds one tensor of a remote one, fetched first where needed.

    Args:
        files: Where the remote file lies.
        shard: Its name.
        name: The tensor's name.
        header: The remote file's header.

    Raises:
        NameUnknownError: If the bytes cannot be had.
    """
    info = header.tensors[name]
    path = _kept(files, shard, name)
    if _is_whole(path, name, info):
        return path
    size = info.end - info.begin
    partial = path.with_suffix(f".{secrets.token_hex(4)}.partial")
    label = f"fetch {name} of {files.location.name}"
    try:
        with files.open(shard) as reader, partial.open("wb") as writer, bar(label, size) as advance:
            writer.write(pack_header({name: (info.dtype, info.shape, size)}, {}))
            reader.seek(header.start + info.begin)
            left = size
            while left:
                data = reader.read(min(BLOCK, left))
                if len(data) != min(BLOCK, left):
                    raise NameUnknownError(
                        f"{files.called(shard)}: {len(data)} bytes came where "
                        f"{min(BLOCK, left)} were asked for; run again"
                    )
                writer.write(data)
                left -= len(data)
                advance(len(data))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def bytes_to_fetch(files: Files, shard: str, name: str, header: Header) -> int:
    """Count the bytes that loading a tensor would fetch."""
    info = header.tensors[name]
    if files.whole(shard) or _is_whole(_kept(files, shard, name), name, info):
        return 0
    return info.end - info.begin


def _kept(files: Files, shard: str, name: str) -> Path:
    from huggingface_hub import cached_assets_path

    folder = cached_assets_path("tokswap", files.location.target, files.revision or "main")
    # A tensor may be called anything; the digest keeps apart what the readable part does not.
    digest = hashlib.sha256(f"{shard}\0{name}".encode()).hexdigest()[:12]
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:80]}-{digest}.safetensors"


def _is_whole(path: Path, name: str, info: TensorInfo) -> bool:
    try:
        found = read_header(path).tensors.get(name)
    except (OSError, CheckpointError):
        return False
    return found is not None and (found.dtype, found.shape) == (info.dtype, info.shape)
