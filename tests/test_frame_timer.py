"""The frame timer of the C extension, as a clock would use it."""

import errno
import os
import select
import sys
import time
from collections.abc import Iterator

import pytest

from engine._codec import ffi, lib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")

NEVER_NS = 2**62
LONG_AGO_NS = 1


@pytest.fixture
def timer_fd() -> Iterator[int]:
    fd = lib.frame_timer_open()
    assert fd >= 0
    yield fd
    os.close(fd)


def test_a_new_timer_waits_for_nothing_and_never_blocks(timer_fd: int) -> None:
    assert lib.frame_timer_read(timer_fd) == 0
    assert not os.get_blocking(timer_fd)
    assert not os.get_inheritable(timer_fd)


def test_a_time_that_has_passed_expires_at_once_and_once(timer_fd: int) -> None:
    assert lib.frame_timer_arm(timer_fd, LONG_AGO_NS, 0) == 0
    assert lib.frame_timer_read(timer_fd) == 1
    assert lib.frame_timer_read(timer_fd) == 0


def test_missed_intervals_are_counted_from_the_first(timer_fd: int) -> None:
    first_ns = time.monotonic_ns() - 1_000_000_000
    assert lib.frame_timer_arm(timer_fd, first_ns, 20_000_000) == 0
    assert lib.frame_timer_read(timer_fd) >= 51


def test_a_time_ahead_makes_it_readable_and_never_early(timer_fd: int) -> None:
    first_ns = time.monotonic_ns() + 2_000_000
    assert lib.frame_timer_arm(timer_fd, first_ns, 0) == 0
    assert select.select([timer_fd], [], [], 30) == ([timer_fd], [], [])
    assert time.monotonic_ns() >= first_ns
    assert lib.frame_timer_read(timer_fd) == 1


def test_arming_again_forgets_what_was_not_read(timer_fd: int) -> None:
    assert lib.frame_timer_arm(timer_fd, LONG_AGO_NS, 0) == 0
    assert lib.frame_timer_arm(timer_fd, NEVER_NS, 0) == 0
    assert lib.frame_timer_read(timer_fd) == 0


def test_a_first_time_of_zero_disarms(timer_fd: int) -> None:
    assert lib.frame_timer_arm(timer_fd, LONG_AGO_NS, 1_000_000) == 0
    assert lib.frame_timer_arm(timer_fd, 0, 1_000_000) == 0
    assert lib.frame_timer_read(timer_fd) == 0


@pytest.mark.parametrize(("first_ns", "interval_ns"), [(-1, 0), (1, -1)])
def test_negative_times_are_refused(timer_fd: int, first_ns: int, interval_ns: int) -> None:
    assert lib.frame_timer_arm(timer_fd, first_ns, interval_ns) == -1
    assert ffi.errno == errno.EINVAL


def test_a_closed_descriptor_is_an_error_with_its_reason() -> None:
    assert lib.frame_timer_arm(-1, 1, 0) == -1
    assert ffi.errno == errno.EBADF
    assert lib.frame_timer_read(-1) == -1
    assert ffi.errno == errno.EBADF
