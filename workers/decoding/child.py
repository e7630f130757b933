"""One decode process, as its worker sees it: started, asked, heard and ended."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import Sha256
from workers.decoding.process import READY
from workers.geometry import Geometry, geometry_from_json
from workers.policy import MAX_SIZE_PX

START_LIMIT_S = 120.0
STOP_LIMIT_S = 2.0
EXIT_LIMIT_S = 0.2
ALARM_MARGIN_S = 10.0
MOST_BYTES = 3 * MAX_SIZE_PX**2
"""Of a frame: in colour, as large as a policy may have it."""
BUFFER_BYTES = 1 << 20
"""What a process may be ahead of its worker, where the system allows it."""

# numpy's thread pool takes memory from the limit and is of no use to one frame
_BOOT = """
import os, sys
os.putenv("OPENBLAS_NUM_THREADS", "1")
sys.path[:] = sys.argv[4:]
from workers.decoding.process import main
main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a frame could not be decoded.

    Parameters
    ----------
    transient
        Whether it may go well another time.
    fatal
        Whether its file ended processes, by memory, by time or outright.
    """

    reason: str
    transient: bool = False
    fatal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """What a process made of a frame: (H, W) or (H, W, 3) uint8.

    Parameters
    ----------
    geometry
        None of an image to be looked at.
    """

    pixels: NDArray[np.uint8]
    digest: Sha256
    aspect: float
    geometry: Geometry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Frames of one file, and where their outcomes belong."""

    path: Path
    policy: str | None
    frames: tuple[int, ...]
    places: tuple[int, ...]

    def part(self, start: int, stop: int) -> "Request":
        """Return the request for some of the frames."""
        return replace(
            self, frames=self.frames[start:stop], places=self.places[start:stop]
        )


class Child:
    """A decode process, as its worker sees it.

    Attributes
    ----------
    request, position
        What it is at; None where it has nothing to do.
    ready
        Whether it has started.
    deadline
        By when it has to say something, on the monotonic clock.
    """

    def __init__(self, *, memory_bytes: int, timeout_s: float) -> None:
        ours, theirs = socket.socketpair()
        self._timeout_s = timeout_s
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        with theirs:
            arguments = (theirs.fileno(), memory_bytes, timeout_s + ALARM_MARGIN_S)
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-I", "-W", "ignore", "-c", _BOOT]
                + [str(argument) for argument in arguments]
                + sys.path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is its worker's to handle
            )
        self.pipe = Connection(ours.detach())
        self.request: Request | None = None
        self.position = 0
        self.ready = False
        self.deadline = time.monotonic() + START_LIMIT_S

    @property
    def idle(self) -> bool:
        """Return whether it can be given something to do."""
        return self.ready and self.request is None

    def begin(self, request: Request) -> None:
        """Give it a request. If it is gone, `receive` will say so."""
        self.request, self.position = request, 0
        self.deadline = time.monotonic() + self._timeout_s
        message = {
            "path": str(request.path),
            "frames": request.frames,
            "policy": request.policy,
        }
        with suppress(OSError):
            self.pipe.send_bytes(json.dumps(message).encode())

    def advance(self) -> None:
        """Go on to the request's next frame."""
        self.position += 1
        self.deadline = time.monotonic() + self._timeout_s
        if self.request is not None and self.position == len(self.request.frames):
            self.request = None

    def receive(self) -> Frame | Failure | None:
        """Return the outcome of the frame that it is at; None when it has started.

        Raises
        ------
        EOFError, OSError
            If it is gone.
        KeyError, TypeError, ValueError
            If it does not speak as it should.
        """
        message = self.pipe.recv_bytes()
        if not self.ready:
            self.ready = message == READY
            return None
        head = json.loads(message)
        if "reason" in head:
            return Failure(
                reason=str(head["reason"]),
                transient=bool(head["transient"]),
                fatal=bool(head["fatal"]),
            )
        geometry = str(head["geometry"])
        return Frame(
            pixels=self._pixels(head["shape"]),
            digest=Sha256(str(head["digest"])),
            aspect=float(head["aspect"]),
            geometry=geometry_from_json(geometry) if geometry else None,
        )

    def _pixels(self, shape: list[int]) -> NDArray[np.uint8]:
        """Return the pixels that come next, read to where they stay."""
        if len(shape) not in (2, 3) or not 0 < math.prod(shape) <= MOST_BYTES:
            raise ValueError("no frame has such a shape")
        pixels = np.empty(shape, np.uint8)
        rest = pixels.data.cast("B")
        while rest:
            count = os.readv(self.pipe.fileno(), [rest])
            if not count:
                raise EOFError
            rest = rest[count:]
        pixels.flags.writeable = False
        return pixels

    def end(self) -> str:
        """Make sure that it is gone, and return what ended it.

        One with nothing to do goes by itself when its pipe is closed.
        """
        try:
            self._process.wait(STOP_LIMIT_S if self.idle else EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"
