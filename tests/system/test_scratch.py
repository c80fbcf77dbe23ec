"""Memory that a thread uses again."""

from __future__ import annotations

import threading

import torch

from flashlogit.system.scratch import borrowed

CPU = torch.device("cpu")


def test_what_was_given_back_is_used_again() -> None:
    with borrowed(100_000, torch.float64, CPU) as first:
        assert first.shape == (100_000,)
        assert first.dtype == torch.float64
        place = first.data_ptr()
    with borrowed(150_000, torch.float32, CPU) as second:
        assert second.data_ptr() == place


def test_two_at_once_lie_apart() -> None:
    with borrowed(1000, torch.float32, CPU) as one, borrowed(1000, torch.float32, CPU) as other:
        one.fill_(1)
        other.fill_(2)
        assert one.sum() == 1000


def test_an_error_gives_it_back() -> None:
    try:
        with borrowed(70_000, torch.float64, CPU) as lost:
            place = lost.data_ptr()
            raise RuntimeError
    except RuntimeError:
        pass
    with borrowed(70_000, torch.float64, CPU) as again:
        assert again.data_ptr() == place


def test_memory_that_inference_took_can_be_written_outside_of_it() -> None:
    with torch.inference_mode(), borrowed(1 << 20, torch.float32, CPU) as inside:
        inside.zero_()
    with borrowed(1 << 20, torch.float32, CPU) as outside:
        outside.add_(1)
        assert outside[0] == 1


def test_threads_have_their_own() -> None:
    places = []

    def borrow() -> None:
        with borrowed(1000, torch.float32, CPU) as memory:
            places.append(memory.data_ptr())

    with borrowed(1000, torch.float32, CPU) as mine:
        other = threading.Thread(target=borrow)
        other.start()
        other.join()
        assert places != [mine.data_ptr()]
