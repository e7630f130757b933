"""Decode and preprocess in processes of their own: a bad file costs itself alone.

`pool` and `child` are the side of the worker, `process` is what runs. They speak JSON
and raw pixels over a socket, never pickles: what comes out of a process that a hostile
file has taken over is still only data.
"""

from workers.decoding.child import Failure
from workers.decoding.pool import (
    DecodedInput,
    DecodePool,
    FrameInput,
    Outcome,
    Shown,
)

__all__ = ["DecodePool", "DecodedInput", "Failure", "FrameInput", "Outcome", "Shown"]
