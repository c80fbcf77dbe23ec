"""Train a logistic regression from a YAML config.

Copy configs/own_file.yaml, which explains every key, for data of your own. Any
key can be set on the command line too, as section.key=value.

Files (data.path): .csv and .tsv (also .gz and .zip), .parquet, .npy, .npz and
libsvm's (.libsvm, .svmlight); one, a list of them, a pattern or a folder.
data.separator and data.decimal are for semicolons and decimal commas.

Categories: a column of text becomes a column of 0 and 1 for each value, such
as carrier=UA; values of fewer than ten training rows share carrier=(other), as
data.categories has it. data.categorical: [auto, month] adds columns of numbers.
A solver's fit without a penalty takes the most frequent value of each column
for the reference, which has no column of its own and a coefficient of 0; others
are given by data.categories.baseline, as in {month: 1}.
The model remembers them; predict and evaluate say how many rows have a value
that it does not know.

Missing values are an error that names the columns, or with data.missing: impute
the training mean and a column that marks them. Further spellings such as ? are
listed in data.missing_values. Dates, and numbers with something among them
(1,200 or 3%), are refused with a hint; `flashlogit inspect` tells of them.

A section `grid` beside `solver` chooses the penalty by cross-validation, and
data.targets: [a, b, c] in place of data.label trains a model of each of several
columns over the same rows (configs/cv.yaml, configs/probes.yaml).

Labels (data.label): 0/1, -1/1, yes/no and true/false are known; any other two
need `positive`, a number `above`, and more than two classes `multiclass: true`
with a section `solver`, which makes a softmax.

A run leaves a folder <output>/<name>/, and never replaces one unless told
--overwrite. It holds
  report.html             metrics with 95 % intervals, curves, coefficients in
                          one page
  coefficients.csv        those of your own columns, odds ratios, and without a
                          penalty standard errors, z, p and 95 % intervals; note
                          says which are references, or not identified
  metrics.json            metrics of each split with intervals; of a solver the
                          gap, why it ended, iterations and reads of X
  model.safetensors       weight [1, D] or [K, D] and bias; columns, categories,
                          standardisation, label names, threshold, a checksum
  predictions.safetensors row number, label and logit of each row that was held
                          out for validation or test, for `flashlogit compare`
  config.yaml             all settings, defaults included, to train it again
  history.jsonl           a line for each epoch: losses, learning rate, speed;
                          of a solver for each step: objective, gap, reads of X
  checkpoint.safetensors  what --resume needs to go on
  grid.csv                of a grid a line for each penalty and fold
  out_of_fold.csv         each training row's logit and probability by the model
                          of the chosen penalty that has not seen it
  targets.csv, targets/   of several targets a line, and a folder with the model,
                          for each
  pictures/               the page's charts as PNG, with report.pictures: true
  tensorboard/            history and metrics, with report.tensorboard: true

A run that is stopped (Ctrl-C, SIGTERM, a terminal that is closed) saves what it
has reached; one that is killed has its last checkpoint: every
training.checkpoint_every epochs or solver.checkpoint_seconds. --resume goes on
from there, bit for bit as if the run had not stopped (on the same device and
number of threads). While a run goes on, the file .lock refuses another of its
name.

CSV files that are written: text that a spreadsheet would run, as it begins with
=, +, -, @, a tab or a line break and is no number, has an apostrophe before it;
so has text that begins with apostrophes before one of these.

examples:
  --config configs/bce.yaml
  --config configs/bce.yaml name=first training.optimizer.lr=0.01
  --config configs/bce.yaml --resume
  --config configs/newton.yaml --overwrite --json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.console import Output
from .shell import add_shared


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
