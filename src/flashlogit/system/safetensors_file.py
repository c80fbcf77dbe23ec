"""The project's own safetensors files: tensors, and beside them one JSON value with a checksum of the whole file.

The value stands under one key of the header's metadata: safetensors writes several keys in a random order, and equal
runs give equal bytes. The checksum guards against accidents. It does not guard against a person who writes a file, and
so whoever reads one checks what is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .errors import UserError
from .files import write_atomically

_ENTRY = "state"
"""The one key of the metadata. Files of 0.1.0 have others beside it or in its place, `format` always."""
_TEXT = '{{"checksum": "{}", "format": "{}", "content": {}}}'
_PARTS = re.compile(r'\{"checksum": "([0-9a-f]{64})", "format": "([a-z0-9-]+)", "content": (.*)\}', re.DOTALL)
_BLANK = b"0" * 64
"""What stands in the place of the checksum while it is computed."""
_DTYPES = {"F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "BOOL"}
"""The dtypes that both NumPy and torch have."""

Content = TypeVar("Content")


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], *, kind: str, content: Mapping[str, Any]
) -> None:
    """Write tensors and a JSON object in one step; the bytes depend on both alone.

    Args:
        path: the file; an older one is replaced.
        tensors: arrays by name.
        kind: what the file is, such as "model".
        content: JSON values.
    """
    text = _TEXT.format(_BLANK.decode(), f"flashlogit-{kind}-2", json.dumps(content, sort_keys=True))
    # safetensors writes the memory of a transposed array as it lies.
    blank = save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, {_ENTRY: text})
    # Nothing that a user names comes before the checksum's place.
    filled = blank.replace(_BLANK, hashlib.sha256(blank).hexdigest().encode(), 1)
    write_atomically(path, lambda temporary: temporary.write_bytes(filled))


def read_safetensors(
    path: Path, *, kind: str, content: Callable[[str], Content], remedy: str
) -> tuple[dict[str, NDArray[Any]], Content]:
    """Return arrays by name, and what `content` makes of the JSON object.

    Args:
        path: an existing file; one of version 0.1.0, which has no checksum, is read too.
        kind: what the file must be, such as "model".
        content: takes the object's text, and raises ValueError, with the reason, for one that it refuses.
        remedy: how a UserError ends.

    Raises:
        UserError: the file is damaged, of another kind or version, or holds something else than `content`.
    """

    def refused(problem: str) -> UserError:
        return UserError(problem, setting=path, remedy=remedy)

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, dtype in dtypes.items():
                if dtype not in _DTYPES:
                    raise refused(f"has a tensor {name[:40]!r} of {dtype}, which no {kind} has")
            tensors = {name: file.get_tensor(name) for name in dtypes}
        found = text = ""
        if "format" in metadata:
            found, text = metadata["format"], _text_of_0_1_0(metadata)
        elif _ENTRY in metadata:
            parts = _PARTS.fullmatch(metadata[_ENTRY])
            if parts is None or _checksum(path, parts[1]) != parts[1]:
                raise refused("is damaged: its bytes do not give the checksum that it holds")
            _, found, text = parts.groups()
    except (SafetensorError, OSError) as error:
        raise refused(f"is damaged or no {kind} of flashlogit ({error})") from error
    if found not in (f"flashlogit-{kind}-1", f"flashlogit-{kind}-2"):
        raise refused(f"is no {kind} that this version of flashlogit reads")
    try:
        return tensors, content(text)
    except ValueError as error:
        raise refused(f"is no {kind} that can be used ({error})") from error


def _checksum(path: Path, inside: str) -> str:
    """Return the SHA-256 of the file with zeros in the place of the checksum `inside` it."""
    with path.open("rb") as file:
        length = 8 + int.from_bytes(file.read(8), "little")
        file.seek(0)
        digest = hashlib.sha256(file.read(length).replace(inside.encode(), _BLANK, 1))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text_of_0_1_0(metadata: Mapping[str, str]) -> str:
    """Return the JSON object of a file whose metadata have a key for each part of it, or for all of them `state`."""
    parts = {key: value for key, value in metadata.items() if key != "format"}
    if _ENTRY in parts:
        return parts[_ENTRY]
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in parts.items()) + "}"
