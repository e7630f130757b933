"""What runs in a decode process: requests in, one answer per frame out.

A request is ``{"path", "frames", "policy"}``, its policy null for images to be looked
at. An answer is ``{"reason", "transient", "fatal"}`` where a frame cannot be read, or is
one that the policy does not use, else ``{"shape", "digest", "aspect", "geometry"}`` followed by
the uint8 pixels of that shape, (H, W) or (H, W, 3), with nothing around them. The
geometry is empty for images to be looked at.

The process ends when its socket closes, so it does not outlive its worker. It has no
more memory than it is given, leaves no core dump with pixels in it, and an alarm that
nothing can block ends a frame that takes far too long even where the worker is gone.
"""

import json
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.errors import PacsightError, Transient
from workers.decode import TOO_LARGE, ImageFile, TooLargeError, open_image
from workers.policy import Preprocessing, policy_from_json
from workers.preprocess import Grey, display, fit, prepare

READY = b"ready"
NOT_USED = "the preprocessing uses the first frame of an image alone"
SHOWN_PX = 1024
"""Longest side of an image to be looked at."""

Answer = tuple[dict[str, Any], Grey | None]

_policy = lru_cache(policy_from_json)


def main(descriptor: int, memory_bytes: int, alarm_s: float) -> None:
    """Answer requests until the socket `descriptor` is closed at the other end."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(descriptor) as worker:
        worker.send_bytes(READY)
        _silence()
        try:
            while True:
                _serve(worker, alarm_s)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def answers(
    path: Path, frames: Sequence[int], policy: Preprocessing | None
) -> Iterator[Answer]:
    """Yield an answer for each of `frames`, in order; the file is opened once."""
    done = 0
    try:
        with open_image(path) as image:
            for frame in frames:
                yield _answer(image, frame, policy)
                done += 1
    except PacsightError as error:
        for _ in frames[done:]:
            yield _refusal(error)


def _serve(worker: Connection, alarm_s: float) -> None:
    request = json.loads(worker.recv_bytes())
    policy = None if request["policy"] is None else _policy(request["policy"])
    found = answers(Path(request["path"]), request["frames"], policy)
    for _ in request["frames"]:
        signal.setitimer(signal.ITIMER_REAL, alarm_s)
        head, pixels = next(found)
        signal.setitimer(signal.ITIMER_REAL, 0)
        worker.send_bytes(json.dumps(head).encode())
        if pixels is not None:
            rest = np.ascontiguousarray(pixels).reshape(-1).data
            while rest:
                rest = rest[os.write(worker.fileno(), rest) :]


def _answer(image: ImageFile, frame: int, policy: Preprocessing | None) -> Answer:
    if policy is not None and not policy.uses(frame):
        return _said(NOT_USED), None
    try:
        decoded = image.decode(frame)
        if policy is None:
            pixels, geometry = fit(display(decoded), SHOWN_PX), ""
        else:
            pixels = prepare(decoded, policy)
            geometry = image.geometry(frame).to_json()
    except PacsightError as error:
        return _refusal(error)
    except MemoryError:
        return _said(TOO_LARGE, fatal=True), None
    except Exception as error:  # noqa: BLE001 - the boundary of this process
        return _said(f"preprocessing failed: {error!r}"), None
    head = {
        "shape": pixels.shape,
        "digest": decoded.digest,
        "aspect": decoded.aspect,
        "geometry": geometry,
    }
    return head, pixels


def _refusal(error: PacsightError) -> Answer:
    transient, fatal = isinstance(error, Transient), isinstance(error, TooLargeError)
    return _said(str(error), transient=transient, fatal=fatal), None


def _said(
    reason: str, *, transient: bool = False, fatal: bool = False
) -> dict[str, Any]:
    return {"reason": reason, "transient": transient, "fatal": fatal}


def _silence() -> None:
    """Send what native decoders print to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
