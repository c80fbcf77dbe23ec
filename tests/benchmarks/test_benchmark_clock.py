"""Clocks give times that the calls themselves confirm; the GPU's clock is tried on a device that stands in for one."""

import contextlib
import math
import time
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from benchmarks.clock import DeviceClock, HostClock, capture, timing, wall

CPU = torch.device("cpu")


def test_a_time_is_that_of_the_call():
    known, short = [], []

    def call():
        began = time.perf_counter()
        time.sleep(0.003)
        known.append((time.perf_counter() - began) * 1e3)

    found = HostClock()({"sleep": call, "short": lambda: short.append(0)}, 3)
    assert min(known) <= found["sleep"].q25_ms <= found["sleep"].ms <= 2 * max(known)
    assert 0 < found["short"].ms < 1
    assert len(short) > 100  # repeated within a measurement
    ms, _ = wall(call, CPU)
    assert known[-1] <= ms <= 2 * known[-1]
    quartiles = timing([4.0, 1.0, 3.0, 2.0, 5.0], "wall")
    assert (quartiles.q25_ms, quartiles.ms, quartiles.q75_ms, quartiles.calls) == (2.0, 3.0, 4.0, 5)


class Cuda:
    """The part of torch.cuda that the clock uses; as in torch, a capture that fails leaves its stream current."""

    Stream = staticmethod(lambda: SimpleNamespace(wait_stream=lambda other: None))
    device = staticmethod(lambda device: contextlib.nullcontext())
    graph_pool_handle = staticmethod(lambda: (0, 1))
    current_device = staticmethod(lambda: 0)

    def __init__(self, *, host_ms=0.0, captures=True):
        self.now = self.host = 0.0
        self.host_ms, self.captures = host_ms, captures
        self.capturing, self.ends = False, 0
        self.old = self.stream_now = self.Stream()
        self.done = []

    def take(self, what, ms=0.0):
        """The device's time when it has done something that takes so long, not before the host has asked for it."""
        self.done.append(what)
        self.now = max(self.now, self.host) + ms
        return self.now

    def work(self, ms):
        def call():
            if self.capturing and not self.captures:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.host += self.host_ms
            self.take("call", ms)

        return call

    def _sleep(self, cycles):
        self.take("spin", cycles / 1e6)

    def Event(self, enable_timing):  # noqa: N802
        event = SimpleNamespace(at=-1.0, query=lambda: self.host >= event.at)

        def record():
            event.at = self.take("event")

        event.record, event.elapsed_time = record, lambda end: end.at - event.at
        return event

    def synchronize(self, device):
        self.host = self.now = max(self.now, self.host)

    def current_stream(self):
        return self.stream_now

    def set_stream(self, stream):
        self.stream_now = stream

    def stream(self, stream):
        return mock.patch.object(self, "stream_now", stream)

    def CUDAGraph(self):  # noqa: N802
        return SimpleNamespace(replay=lambda: self.take("replay", 2.0))

    @contextlib.contextmanager
    def graph(self, graph, *, stream, capture_error_mode, pool=None):
        assert capture_error_mode == "thread_local"
        before, self.stream_now, self.capturing = self.stream_now, stream, True
        try:
            yield
        except BaseException as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        finally:
            self.capturing = False
            self.ends += 1
        self.stream_now = before


@pytest.fixture(autouse=True)
def _small_eviction(monkeypatch):
    monkeypatch.setattr("benchmarks.clock._EVICTED_BYTES", 64)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *pool: None, raising=False)


@pytest.mark.parametrize(
    ("host_ms", "captures", "known"),
    [
        (0.0, True, (2.0, "graph", 0.0)),
        (3.0, False, (1.0, "events (RuntimeError)", 0.0)),  # the first spins, of 0.2 ms, are too short
        (1e3, False, (None, "events (RuntimeError)", 1.0)),  # a host that stays behind is written down
    ],
)
def test_calls_are_timed_behind_a_spin(host_ms, captures, known):
    cuda = Cuda(host_ms=host_ms, captures=captures)
    found = DeviceClock(CPU, cuda)({"a": cuda.work(1.0)}, 4)["a"]
    assert (found.method, found.late) == known[1:]
    assert known[0] is None or math.isclose(found.ms, known[0])
    assert not captures or cuda.done[-4:] == ["spin", "event", "replay", "event"]


def test_a_capture_that_fails_leaves_the_stream_and_a_capture_that_ended():
    cuda = Cuda(captures=False)
    with pytest.raises(RuntimeError, match="not permitted"):
        capture(cuda.work(1.0), CPU, cuda)
    assert cuda.stream_now is cuda.old
    assert not cuda.capturing
    assert cuda.ends == 2
