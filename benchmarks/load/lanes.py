"""The generator's short way for audio: `lanes.c`, compiled when first needed, and its seat in the loop.

Owns the compiled library and which sockets are on it. It changes no figure: what it counts is what the careful way in Python
would have counted, and all it does not recognise goes that way. Without a C compiler there are no lanes, and the careful way
carries everything.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cffi import FFI  # type: ignore[import-untyped]

from .speech import Tape

_SOURCE = Path(__file__).with_name("lanes.c")
_COUNTED, _RAW = 1, 2
# A limit that is none.
ANY_POSITION = 1 << 62
# Called with (arrived_s, position, samples, bytes of the frame).
OnCounted = Callable[[float, int, int, int], None]
# As in lanes.c: the longest text around a payload that is recognised.
_PREFIX_BYTES = 256
_FUNCTIONS = """
    struct lanes; struct lane;
    struct lanes *lanes_new(const uint8_t *tape, int64_t period);
    void lanes_free(struct lanes *lanes);
    struct lane *lane_new(int fd, int id, int masked);
    int lanes_watch(struct lanes *lanes, struct lane *lane);
    void lanes_forget(struct lanes *lanes, struct lane *lane);
    void lane_begin(struct lane *lane, int64_t origin, int64_t limit);
    void lane_limit(struct lane *lane, int64_t limit);
    void lane_sync(struct lane *lane, int64_t position, int countdown);
    void lane_learn(struct lane *lane, const uint8_t *prefix, int prefix_size, const uint8_t *suffix, int suffix_size);
    int64_t lane_repeated_keys(const struct lane *lane);
    int lanes_turn(struct lanes *lanes, double wall_ahead_s);
    const int32_t *lanes_lane(const struct lanes *lanes);
    const int32_t *lanes_kind(const struct lanes *lanes);
    const int32_t *lanes_size(const struct lanes *lanes);
    const int32_t *lanes_offset(const struct lanes *lanes);
    const int64_t *lanes_position(const struct lanes *lanes);
    const double *lanes_at(const struct lanes *lanes);
    const uint8_t *lanes_arena(const struct lanes *lanes);
"""


class NoLanes(Exception):
    """The library cannot be had here; the text says why."""


def compile_lanes(cache: Path | None = None) -> Path:
    """The compiled library, from the cache or made now.

    Args:
        cache: Where it is kept; None means the user's cache directory.

    Raises:
        NoLanes: There is no C compiler, or it failed.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache or home / "media-engine-benchmarks"
    source = _SOURCE.read_bytes()
    library = directory / f"lanes-{hashlib.sha256(source + os.uname().machine.encode()).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise NoLanes("no C compiler")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # under another name first: another run may be doing the same
        made = library.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        made.replace(library)
    except subprocess.SubprocessError as error:
        raise NoLanes(f"the C compiler failed: {getattr(error, 'stderr', '') or error}") from error
    except OSError as error:
        raise NoLanes(str(error)) from error
    return library


class Lane:
    """One socket's lane.

    Attributes:
        on_counted: called with (arrived_s, position, samples, bytes of the frame) for audio that lay next on the tape.
        on_raw: called with (bytes, arrived_s) for everything else, whole frames.
        on_closed: called with (now_s) once nothing more will come.
    """

    def __init__(
        self,
        library: Any,
        state: Any,
        *,
        on_counted: OnCounted,
        on_raw: Callable[[bytes, float], None],
        on_closed: Callable[[float], None],
        sync: Callable[["Lane"], None],
    ) -> None:
        self._library, self.state = library, state
        self.on_counted, self.on_raw, self.on_closed, self._sync = on_counted, on_raw, on_closed, sync
        self._learnt = b""

    def limit(self, samples: int) -> None:
        """Audio beyond this many samples has not been sent yet."""
        self._library.lane_limit(self.state, samples)

    def resync(self) -> None:
        """The careful way has had its turn: go on where it stands."""
        self._sync(self)

    def go_on(self, position: int | None, messages: int, prefix: bytes, suffix: bytes) -> None:
        """Count from a position on, so many messages; none if the position is not known."""
        if prefix != self._learnt and max(len(prefix), len(suffix)) <= _PREFIX_BYTES:
            self._library.lane_learn(self.state, prefix, len(prefix), suffix, len(suffix))
            self._learnt = prefix
        known = position is not None and prefix == self._learnt
        self._library.lane_sync(self.state, position or 0, messages if known else 0)

    def repeated_keys(self) -> int:
        """How often a masking key followed itself."""
        return int(self._library.lane_repeated_keys(self.state))


class Lanes:
    """All lanes of a run.

    Raises:
        NoLanes: The library cannot be had here.
    """

    def __init__(self, tape: Tape) -> None:
        ffi = FFI()
        ffi.cdef(_FUNCTIONS)
        self._ffi: Any = ffi
        self._library: Any = ffi.dlopen(str(compile_lanes()))
        # kept alive as long as C reads it
        self._tape = ffi.from_buffer(tape.recording)
        self._state = self._library.lanes_new(self._tape, tape.period)
        if self._state == ffi.NULL:
            raise NoLanes("no memory")
        self._lanes: list[Lane | None] = []
        names = ("lane", "kind", "at", "position", "size", "offset")
        self._columns = [getattr(self._library, f"lanes_{name}")(self._state) for name in names]
        self._arena = self._library.lanes_arena(self._state)

    def open(self, descriptor: int, *, masked: bool, origin: int, limit: int, **takers: Any) -> Lane:
        """Put a socket on a lane of its own; takers as of `Lane`.

        Raises:
            OSError: It cannot be watched.
        """
        state = self._library.lane_new(descriptor, len(self._lanes), masked)
        self._library.lane_begin(state, origin, limit)
        lane = Lane(self._library, state, **takers)
        if self._library.lanes_watch(self._state, state):
            raise OSError(self._ffi.errno, "a lane cannot be watched")
        self._lanes.append(lane)
        lane.resync()
        return lane

    def forget(self, lane: Lane) -> None:
        """Take a socket off its lane; before it is closed. Its lane must not be used again."""
        self._lanes[self._lanes.index(lane)] = None
        self._library.lanes_forget(self._state, lane.state)

    def turn(self, wall_ahead_s: float) -> None:
        """Deal with what has arrived."""
        count = self._library.lanes_turn(self._state, wall_ahead_s)
        if not count:
            return
        unpack, lanes = self._ffi.unpack, self._lanes
        columns = [unpack(column, count) for column in self._columns]
        handed_over: dict[int, None] = {}
        for number, kind, at, position, size, offset in zip(*columns, strict=True):
            lane = lanes[number]
            if lane is None:
                continue
            if kind == _COUNTED:
                lane.on_counted(at, position, size, offset)
            elif kind == _RAW:
                handed_over[number] = None
                lane.on_raw(self._ffi.buffer(self._arena + offset, size)[:], at)
            else:
                lane.on_closed(at)
        for number in handed_over:
            lane = lanes[number]
            if lane is not None:
                lane.resync()

    def close(self) -> None:
        """Give everything back; call it when no socket is on a lane any more or none will be read."""
        for lane in self._lanes:
            if lane is not None:
                self._library.lanes_forget(self._state, lane.state)
        self._lanes.clear()
        self._library.lanes_free(self._state)
