"""``pacsight search``: the nearest cases of an atlas, or images of one's own."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli import ConfigOption, JsonOption


class CaseChoice(StrEnum):
    """Which cases count."""

    IMAGE = "image"
    VOLUME = "volume"


def search(  # noqa: PLR0913 - the command's options
    *,
    text: Annotated[str, typer.Option(help="What images should show.")] = "",
    image: Annotated[
        Path | None, typer.Option(help="A DICOM file, or a picture.")
    ] = None,
    study: Annotated[
        str, typer.Option(help="A folder, or the UID of a study of --embeddings.")
    ] = "",
    atlas: Annotated[
        str, typer.Option(help="Folder of an atlas, or milvus+URI#NAME.")
    ] = "",
    embeddings: Annotated[
        list[Path] | None,
        typer.Option(help="Files of `pacsight embed`, or folders of them."),
    ] = None,
    pack: Annotated[str, typer.Option(help="Whose encoder embeds what is asked.")] = "",
    k: Annotated[int, typer.Option(help="How many are shown.", min=1)] = 10,
    modality: Annotated[str, typer.Option(help="Only cases of this modality.")] = "",
    body_part: Annotated[str, typer.Option(help="Only cases of this body part.")] = "",
    kind: Annotated[CaseChoice | None, typer.Option(help="Only these cases.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="A text to rank against the image.")
    ] = None,
    label_prompts: Annotated[
        bool, typer.Option("--label-prompts", help="Rank the atlas's labels, too.")
    ] = False,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the atlas's index.")
    ] = False,
    link: Annotated[
        Path | None, typer.Option(help="Who is who; else beside the atlas.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="DICOM files of the embeddings, for pictures.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a contact sheet.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find the nearest cases: image to image, text to image, image to text."""
    from dicom_node.config import load_settings
    from dicom_node.files import write_durably
    from dicom_node.logs import configure_logs
    from workers.app import decode_pool
    from workers.atlas.columns import CaseKind
    from workers.atlas.describing import answer_view
    from workers.atlas.looking import Tools, Wanted, look_up
    from workers.atlas.searching import Filters
    from workers.atlas.sheet import contact_sheet
    from workers.encoder import open_encoder

    settings = load_settings(config)
    configure_logs(style=settings.log.format, level="warning")
    worker = settings.worker
    wanted = Wanted(
        text=text,
        image=image,
        study=study,
        atlas=atlas,
        embeddings=tuple(embeddings or ()),
        pack=pack,
        k=k,
        filters=Filters(
            modality=modality,
            body_part=body_part,
            kind=CaseKind[kind.name] if kind else None,
        ),
        prompts=tuple(prompt or ()),
        label_prompts=label_prompts,
        approximate=approximate,
        link=link,
        images=images,
    )
    tools = Tools(
        model=lambda opened: open_encoder(
            opened, device=worker.device, threads=worker.threads
        ),
        decoders=lambda: decode_pool(settings),
        milvus_token=worker.milvus_secret,
    )
    found = look_up(wanted, tools)
    if html:
        page = contact_sheet(found.answer, asked=found.asked)
        write_durably(html.absolute(), page.encode())
    if as_json:
        typer.echo(json.dumps(found.answer.to_json(), indent=2))
    else:
        Console().print(answer_view(found.answer), highlight=False)
        if html:
            typer.echo(f"contact sheet: {html}")
