"""What ``pacsight search`` does: a question is asked, and answered from one source."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import Permanent
from workers.atlas.answering import (
    Answer,
    AtlasShelf,
    Shelf,
    rank_prompts,
)
from workers.atlas.asking import Question, ask_files, ask_study, ask_text
from workers.atlas.deidentify import thumbnail
from workers.atlas.places import open_reference
from workers.atlas.research import Drawing, ResearchShelf, no_picture
from workers.atlas.searching import Filters
from workers.cohort import EmbeddingFile, read_embeddings
from workers.decoding import DecodedInput, DecodePool, FrameInput
from workers.encoder import Encoder
from workers.listing import ImageSource, files_in, images
from workers.pack import Pack, locate, open_pack
from workers.policy import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked, and of what.

    Parameters
    ----------
    text, image, study
        One of them; a study is a folder, or the UID of one in `embeddings`.
    embeddings
        Files, or folders of them: what is searched where there is no atlas.
    pack
        Whose encoder embeds the question.
    prompts
        Texts that are ranked against the question.
    atlas
        A folder, or ``milvus+URI``.
    images
        A folder of DICOM files to draw pictures of research hits from.
    """

    text: str = ""
    image: Path | None = None
    study: str = ""
    atlas: str = ""
    embeddings: tuple[Path, ...] = ()
    pack: str = ""
    k: int = 10
    filters: Filters = field(default_factory=Filters)
    prompts: tuple[str, ...] = ()
    label_prompts: bool = False
    approximate: bool = False
    link: Path | None = None
    images: Path | None = None

    def __post_init__(self) -> None:
        if sum(map(bool, (self.text, self.image, self.study))) != 1:
            raise Permanent("ask with one of --text, --image and --study")
        if not (self.atlas or self.embeddings or self.prompts):
            raise Permanent("name what to search: --atlas or --embeddings")
        if self.text and (self.prompts or self.label_prompts):
            raise Permanent("prompts are ranked against an image or a study")
        if self.label_prompts and not self.atlas:
            raise Permanent(
                "the labels of an atlas are prompts only where there is one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What starts the model and the decode processes where they are needed."""

    model: Callable[[Pack], Encoder]
    decoders: Callable[[], AbstractContextManager[DecodePool]]
    milvus_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer, and a PNG of what was searched with; empty for none."""

    answer: Answer
    asked: bytes


def look_up(wanted: Wanted, tools: Tools) -> Found:
    """Return what is found.

    Raises
    ------
    Permanent
        If question and source do not belong together, or one cannot be read.
    """
    files = tuple(read_embeddings(path) for path in _listed(wanted.embeddings))
    with ExitStack() as at:
        desk = _Desk(wanted=wanted, tools=tools, at=at)
        shelf = _shelf(wanted, files, desk)
        if shelf is not None and desk.needs_model:
            desk.check(shelf)
        question = _question(wanted, files, desk)
        answer = (
            shelf.answer(question, wanted.k, wanted.filters)
            if shelf is not None
            else Answer(question=question.words, source="")
        )
        prompts = _prompts(wanted, shelf)
        if prompts:
            ranks = rank_prompts(question, prompts, desk.encoder())
            answer = answer.with_prompts(ranks)
    asked = b"" if question.picture is None else thumbnail(question.picture)
    return Found(answer=answer, asked=asked)


@dataclass(slots=True, kw_only=True)
class _Desk:
    """The model and the decode processes, started when first needed."""

    wanted: Wanted
    tools: Tools
    at: ExitStack
    _pack: Pack | None = None
    _encoder: Encoder | None = None
    _decoders: DecodePool | None = None

    @property
    def needs_model(self) -> bool:
        """Return whether a question has to be embedded."""
        wanted = self.wanted
        folder = bool(wanted.study) and Path(wanted.study).exists()
        prompted = bool(wanted.prompts or wanted.label_prompts)
        return bool(wanted.text or wanted.image) or folder or prompted

    def pack(self) -> Pack:
        if self._pack is None:
            if not self.wanted.pack:
                raise Permanent("name the pack that embeds the question: --pack")
            self._pack = open_pack(locate(self.wanted.pack))
        return self._pack

    def check(self, shelf: Shelf) -> None:
        """Accept the pack's encoder, before it is loaded."""
        shelf.check_encoder(self.pack().encoder_key, f"pack {self.pack().name}")

    def encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self.tools.model(self.pack())
        return self._encoder

    def decoders(self) -> DecodePool:
        if self._decoders is None:
            self._decoders = self.at.enter_context(self.tools.decoders())
        return self._decoders


def _question(
    wanted: Wanted, files: tuple[EmbeddingFile, ...], desk: _Desk
) -> Question:
    if wanted.text:
        return ask_text(wanted.text, desk.encoder())
    path = wanted.image or Path(wanted.study)
    if wanted.image or path.exists():
        if not path.exists():
            raise Permanent(f"{path} does not exist")
        return ask_files(path, desk.encoder(), desk.decoders())
    for file in files:
        if wanted.study in file.studies:
            return ask_study(wanted.study, file)
    raise Permanent(
        f"{wanted.study} is neither a folder nor a study of a file of --embeddings"
    )


def _shelf(
    wanted: Wanted, files: tuple[EmbeddingFile, ...], desk: _Desk
) -> Shelf | None:
    if wanted.atlas:
        token = desk.tools.milvus_token
        atlas = open_reference(wanted.atlas, link=wanted.link, token=token)
        desk.at.callback(atlas.close)
        for file in files:
            atlas.check_encoder(file.encoder_key, str(file.path))
        return AtlasShelf(atlas=atlas, approximate=wanted.approximate)
    if not files:
        return None
    drawing = _drawing(wanted.images, desk) if wanted.images else no_picture
    return ResearchShelf(files=files, pictures=drawing)


def _drawing(folder: Path, desk: _Desk) -> Drawing:
    """Return what draws frames of the images in a folder."""
    found = images(list(files_in([folder])), {})
    paths = {str(o.sop_instance_uid): o for o in found if isinstance(o, ImageSource)}
    policy: Preprocessing = desk.pack().preprocessing

    def draw(instance: str, frame: int) -> bytes:
        source = paths.get(instance)
        if source is None:
            return b""
        wanted = FrameInput(path=Path(source.stamp.path), frame=frame)
        (outcome,) = desk.decoders().map([wanted], policy)
        return thumbnail(outcome.image) if isinstance(outcome, DecodedInput) else b""

    return draw


def _prompts(wanted: Wanted, shelf: Shelf | None) -> tuple[str, ...]:
    if not wanted.label_prompts or not isinstance(shelf, AtlasShelf):
        return wanted.prompts
    labels = shelf.atlas.manifest.labels
    return (*wanted.prompts, *(label.concept.meaning for label in labels))


def _listed(paths: tuple[Path, ...]) -> list[Path]:
    """Return the files of embeddings among files and folders."""
    found = list[Path]()
    for path in paths:
        inside = (
            sorted(
                p for p in path.iterdir() if p.suffix in (".safetensors", ".parquet")
            )
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise Permanent(f"{path} holds no file of embeddings")
        found += inside
    return found
