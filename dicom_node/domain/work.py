"""What is to be done: frames to embed, studies to conclude, objects to deliver."""

from dataclasses import dataclass
from hashlib import sha256

from dicom_node.domain.arrival import (
    Priority,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.domain.exam import Exam


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderKey:
    """What makes two embeddings comparable, and one reusable by another pack.

    Parameters
    ----------
    encoder
        Digest of the weights.
    preprocessing
        Digest of the policy from DICOM to model input.
    profile
        Numeric profile, e.g. ``float32``.
    """

    encoder: Sha256
    preprocessing: Sha256
    profile: str

    @property
    def digest(self) -> Sha256:
        """Return the key as one digest: what the ledger stores."""
        text = f"{self.encoder}/{self.preprocessing}/{self.profile}"
        return Sha256(sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class PackCard:
    """What the node has to know of a pack; the rest is the worker's business.

    Parameters
    ----------
    device_uid
        Derived from weights, heads, thresholds and numeric profile.
    """

    name: str
    version: str
    device_uid: str
    encoder: EncoderKey


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One instance version of a study, and where its bytes lie.

    Parameters
    ----------
    version
        The ledger's key of the instance version.
    path
        Relative to the spool's root.
    exam
        How it was taken; little is known of what came in before that was kept.
    """

    version: int
    path: str
    sha256: Sha256
    series_uid: SeriesUid
    sop_instance_uid: SopInstanceUid
    sop_class_uid: SopClassUid
    exam: Exam
    frames: int
    instance_number: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFrame:
    """A frame that waits to be embedded.

    Parameters
    ----------
    embedding
        The ledger's key of the embedding to be made.
    encoder
        Digest of the `EncoderKey`.
    alone
        Whether a worker died on a batch that held it: it is not put with others again.
    """

    embedding: int
    encoder: Sha256
    priority: Priority
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTask:
    """A frame of a batch: which embedding to make from which file.

    Parameters
    ----------
    frame
        Index from 0.
    """

    embedding: int
    version: int
    path: str
    frame: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to do a piece of work until it expires or is taken over.

    Parameters
    ----------
    token
        Grows with every lease of the same work: an older token may no longer
        write (fencing).
    """

    work: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedFrame:
    """The outcome of embedding one frame: a vector, or the reason for none.

    Parameters
    ----------
    vector
        float32, little endian, L2-normalised, as bytes; empty if unreadable.
    pixels
        Digest of the frame's decoded pixels, empty if unreadable; tells a
        changed picture from a changed transfer syntax.
    reason
        Why the frame could not be read; empty otherwise.
    geometry
        Where the frame lies, as JSON of the worker's; no patient data. Empty if
        unreadable.
    fatal
        Whether its file ended those who tried to read it: the instance is quarantined.
    """

    embedding: int
    vector: bytes
    pixels: str = ""
    reason: str = ""
    geometry: str = ""
    fatal: bool = False
