"""Scratch buffers, which a thread uses again."""

from __future__ import annotations

import threading

import torch

from flashlogit.system.memory import scratch_buffer

CPU = torch.device("cpu")


def test_what_was_given_back_is_used_again() -> None:
    with scratch_buffer(100_000, torch.float64, CPU) as first:
        assert first.shape == (100_000,)
        assert first.dtype == torch.float64
        place = first.data_ptr()
    with scratch_buffer(150_000, torch.float32, CPU) as second:
        assert second.data_ptr() == place


def test_two_at_once_lie_apart() -> None:
    with scratch_buffer(1000, torch.float32, CPU) as one, scratch_buffer(1000, torch.float32, CPU) as other:
        one.fill_(1)
        other.fill_(2)
        assert one.sum() == 1000


def test_an_error_gives_it_back() -> None:
    try:
        with scratch_buffer(70_000, torch.float64, CPU) as lost:
            place = lost.data_ptr()
            raise RuntimeError
    except RuntimeError:
        pass
    with scratch_buffer(70_000, torch.float64, CPU) as again:
        assert again.data_ptr() == place


def test_memory_that_inference_took_can_be_written_outside_of_it() -> None:
    with torch.inference_mode(), scratch_buffer(1 << 20, torch.float32, CPU) as inside:
        inside.zero_()
    with scratch_buffer(1 << 20, torch.float32, CPU) as outside:
        outside.add_(1)
        assert outside[0] == 1


def test_threads_have_their_own() -> None:
    places = []

    def use() -> None:
        with scratch_buffer(1000, torch.float32, CPU) as memory:
            places.append(memory.data_ptr())

    with scratch_buffer(1000, torch.float32, CPU) as mine:
        other = threading.Thread(target=use)
        other.start()
        other.join()
        assert places != [mine.data_ptr()]
