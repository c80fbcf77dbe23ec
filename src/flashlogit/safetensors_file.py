"""Reading the project's own safetensors files: tensors, and JSON in the header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .errors import UserError


def read_safetensors(
    path: Path, *, framework: str, kind: str, remedy: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors on the CPU by name, and the header's metadata.

    Args:
        path: an existing file.
        framework: "pt" for torch tensors, "numpy" for arrays.
        kind: what the header's `format` must be, such as "flashlogit-model-1".
        remedy: how a UserError ends.

    Raises:
        UserError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework=framework) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error
    if metadata.get("format") != kind:
        raise UserError(f"{path} is not a file of the kind {kind}; {remedy}")
    return tensors, metadata
