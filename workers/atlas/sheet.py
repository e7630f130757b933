"""A contact sheet: what was found, as one HTML file that needs nothing else."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape

from workers.atlas.answering import Answer, Hit

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0;
        --paper: #fff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1;
        --line: #3d444d; --paper: #0d1117; --card: #151b23; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink);
       background: var(--paper); margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
p { color: var(--soft); margin: .15rem 0; overflow-wrap: anywhere; }
.banner { color: var(--ink); border-left: 4px solid #bf8700; padding-left: .6rem;
          margin: .8rem 0 1.2rem; }
ol { list-style: none; padding: 0; display: grid; gap: 1rem;
     grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
     overflow: hidden; break-inside: avoid; }
.picture { background: #000; aspect-ratio: 1; display: grid; place-items: center;
           color: #9198a1; }
.picture img { width: 100%; height: 100%; object-fit: contain;
               image-rendering: auto; display: block; }
.text { padding: .6rem .7rem .7rem; }
.name { font-weight: 600; overflow-wrap: anywhere; display: flex; gap: .5rem;
        justify-content: space-between; align-items: baseline; }
.rank { color: var(--soft); font-weight: 400; }
.similarity { font-variant-numeric: tabular-nums; }
.labels { margin: .3rem 0; color: var(--ink); }
.kind { border: 1px solid var(--line); border-radius: 4px; padding: 0 .3rem; }
.small { font-size: .82rem; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { text-align: left; padding: .3rem 1rem .3rem 0;
         border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
"""


def contact_sheet(answer: Answer, *, asked: bytes = b"") -> str:
    """Return the page.

    Parameters
    ----------
    asked
        PNG of what was searched with; empty for none.
    """
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(answer.question)}: nearest cases</title>",
            f"<style>{_STYLE}</style></head><body>",
            *_head(answer),
            *_prompts(answer),
            "<ol>",
            *([_card("asked", _asked(answer, asked))] if asked else []),
            *(_card(f"{n}", _hit(hit)) for n, hit in enumerate(answer.hits, start=1)),
            "</ol></body></html>",
            "",
        )
    )


def _head(answer: Answer) -> Iterator[str]:
    yield f"<h1>Nearest to: {escape(answer.question)}</h1>"
    yield f"<p>{escape(answer.source)}</p>"
    if answer.compared:
        yield f"<p>Compared: {escape(answer.compared)}</p>"
    remark = f" {escape(answer.remark.capitalize())}." if answer.remark else ""
    yield (
        '<p class="banner"><strong>Research, not for diagnosis.</strong> '
        "Similarity (cosine) is not evidence of diagnosis."
        f"{remark}</p>"
    )


def _prompts(answer: Answer) -> Iterator[str]:
    if not answer.prompts:
        return
    yield "<table><tr><th>Text</th><th>Similarity</th><th>Share of these texts</th></tr>"
    for one in answer.prompts:
        yield (
            f"<tr><td>{escape(one.text)}</td>"
            f'<td class="number">{one.similarity:.4f}</td>'
            f'<td class="number">{one.share:.1%}</td></tr>'
        )
    yield "</table>"


def _card(rank: str, content: tuple[str, str]) -> str:
    picture, text = content
    return f'<li data-rank="{rank}"><div class="picture">{picture}</div>{text}</li>'


def _hit(hit: Hit) -> tuple[str, str]:
    labels = ", ".join(hit.labels) or "no finding present"
    by = f" ({hit.established_by})" if hit.established_by else ""
    known = f'<div class="labels">{escape(labels + by)}</div>' if hit.labelled else ""
    text = (
        f'<div class="text"><div class="name">{escape(hit.name)}'
        f'<span class="similarity">{hit.similarity:.3f}</span></div>{known}'
        f'<p class="small"><span class="kind">{hit.kind.name.lower()}</span> '
        f"{escape(hit.about)}</p></div>"
    )
    return _picture(hit.picture, hit.name), text


def _asked(answer: Answer, asked: bytes) -> tuple[str, str]:
    text = (
        '<div class="text"><div class="name">searched with</div>'
        f'<p class="small">{escape(answer.question)}</p></div>'
    )
    return _picture(asked, "searched with"), text


def _picture(content: bytes, name: str) -> str:
    if not content:
        return "no picture"
    data = b64encode(content).decode()
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
