"""The command `train`: a model from a YAML config."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.console import Output
from .shell import Command, add_shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    add_shared(parser, "--config", required=True)
    add_shared(parser, "overrides")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    group.add_argument("--overwrite", action="store_true", help="replace an existing run of this name")


def run(options: argparse.Namespace, output: Output) -> None:
    """Train as the settings say."""
    # Settings are checked before the slow imports, so that a typing mistake is answered at once.
    from ..config.load import load_settings
    from ..runs.directory import Mode, RunDirectory

    settings = load_settings(options.config, options.overrides)
    mode: Mode = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    with RunDirectory(Path(settings.output).expanduser() / settings.name, mode) as directory:
        from ..runs.run import train_run

        result = train_run(settings, directory, mode, say=output.say, quiet=options.quiet)
    output.answer(f"results: {directory.path}", {"directory": str(directory.path), **result.to_json()})


COMMAND = Command(
    "Train a logistic regression from a YAML config.",
    """\
--config configs/bce.yaml
--config configs/bce.yaml name=first training.optimizer.lr=0.01
--config configs/bce.yaml --resume
--config configs/newton.yaml --overwrite --json""",
    add_arguments,
    run,
)
