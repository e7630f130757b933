"""Delivering in a storm: the node, three archives, a bad network, and what came of it.

One Orthanc is sent to by C-STORE, one by STOW-RS, one by Orthanc's own REST API, each
through a proxy; the first reports on storage commitment to the node itself. The storm's blows fall while the node delivers; then all of it ends, the archives by a power
cut, and what they hold is compared with the outbox.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from dicom_node.domain import ObjectKind
from dicom_node.ledger import Ledger
from tests.bars import Show
from tests.delivery.account import Account, compared, ledger_says, outbox_of, progress
from tests.delivery.archives import Held, UnrulyOrthanc, orthanc_binary
from tests.delivery.node import Node
from tests.delivery.plan import ARCHIVES, Blow, Fate, Storm, Target
from tests.delivery.proxy import Proxy
from tests.delivery.results import KINDS, concluded
from tests.integration.conftest import free_port

PATIENCE_S = 400.0
"""So long nothing at all may be delivered before the run is given up: longer than the
node waits at most before it asks again for what was sent (300 s)."""
POLL_S = 0.1
PROCESSES = 2
"""That compose, before the storm."""

WANTED: Mapping[Target, Collection[ObjectKind]] = {
    Target.ARCHIVE: KINDS,
    Target.WEB: KINDS,
    Target.REST: (ObjectKind.REPORT,),
}
"""What is sent to each archive."""


@dataclass
class Scene:
    """The node, the archives, and the network between them."""

    node: Node
    archives: dict[Target, UnrulyOrthanc]
    proxies: dict[Target, Proxy]
    ledger: Ledger
    storm: Storm

    def up(self, blow: Blow) -> None:
        """Let what was struck go on."""
        if blow.how is SIGSTOP:
            self._process(blow.target).send_signal(SIGCONT)
        else:
            self._process(blow.target).start()

    def down(self, blow: Blow) -> None:
        """End or freeze it as the blow says."""
        if blow.how is SIGSTOP:
            self._process(blow.target).send_signal(SIGSTOP)
        else:
            self._process(blow.target).end(blow.how)

    def _process(self, target: Target) -> Node | UnrulyOrthanc:
        return self.archives.get(target) or self.node

    def faults(self, blows: Sequence[Blow]) -> Counter[str]:
        """Return what went wrong on purpose, and how often."""
        faults = Counter(f"{b.target}: {b.how.name}" for b in blows)
        for target, proxy in self.proxies.items():
            faults += Counter({f"{target}: {f}": n for f, n in proxy.faults.items()})
        for target, archive in self.archives.items():
            said = archive.faults().items()
            faults += Counter({f"{target}: {fault}": n for fault, n in said})
        return faults


def weather(
    storm: Storm,
    folder: Path,
    *,
    results: int,
    batch_size: int = 16,
    processes: int = PROCESSES,
    show: Show = lambda *_: None,
) -> Account:
    """Return what came of delivering so many results in a storm.

    Parameters
    ----------
    batch_size
        Objects sent in one association or request: the fewer, the more connections.
    """
    with _scene(storm, folder, batch_size=batch_size) as scene:
        with _executor(processes) as executor:
            _prepare(scene, results, executor, show)
        begun = time.monotonic()
        struck = _deliver(scene, results, show)
        delivering_s = time.monotonic() - begun
        faults = scene.faults(struck)
        held = _read_back(scene, show)
        outbox = list(outbox_of(scene.ledger, scene.node.outbox))
        return Account(
            seed=storm.seed,
            results=results,
            archives={
                target: compared(
                    [one for one in outbox if one.kind in WANTED[target]], held[target]
                )
                for target in ARCHIVES
            },
            ledger=ledger_says(scene.ledger),
            faults=dict(sorted(faults.items())),
            delivering_s=delivering_s,
        )


@contextmanager
def _scene(storm: Storm, folder: Path, *, batch_size: int) -> Iterator[Scene]:
    """Yield everything, nothing of it started but the network and the ledger."""
    node = Node(folder=folder / "node", dicom_port=free_port())
    archives = {
        target: UnrulyOrthanc(
            binary=orthanc_binary() or "",
            folder=folder / target.value,
            modalities={"PACSIGHT": node.dicom_port},
            seed=storm.seed,
            refused=storm.refused,
            lost=storm.lost if target in storm.forgetful else 0.0,
        )
        for target in ARCHIVES
    }
    proxies = {
        target: Proxy(
            archive.dicom_port if target is Target.ARCHIVE else archive.http_port,
            fates=_fates(storm, target),
            seed=storm.seed + number,
        )
        for number, (target, archive) in enumerate(archives.items())
    }
    with ExitStack() as stack:
        stack.enter_context(node.broker())
        ledger = node.ledger()
        stack.callback(ledger.close)
        for proxy in proxies.values():
            stack.callback(proxy.stop)
            proxy.start()
        for archive in archives.values():
            stack.callback(archive.kill)
        stack.callback(node.kill)
        node.settings = _settings(proxies, storm, batch_size=batch_size)
        yield Scene(node, archives, proxies, ledger, storm)


def _fates(storm: Storm, target: Target) -> dict[Fate, float]:
    over_http = target is not Target.ARCHIVE
    return {f: n for f, n in storm.fates.items() if over_http or f != Fate.REFUSED}


def _settings(proxies: Mapping[Target, Proxy], storm: Storm, *, batch_size: int) -> str:
    ports = {target: proxy.port for target, proxy in proxies.items()}
    ways = {
        Target.ARCHIVE: (
            f'aet = "ORTHANC"\nhost = "127.0.0.1"\nport = {ports[Target.ARCHIVE]}\n'
        ),
        Target.WEB: (
            'via = "stow"\n'
            f'dicomweb = "http://127.0.0.1:{ports[Target.WEB]}/dicom-web"\n'
        ),
        Target.REST: (
            f'via = "orthanc"\northanc = "http://127.0.0.1:{ports[Target.REST]}"\n'
            f'objects = ["{ObjectKind.REPORT}"]\n'
        ),
    }
    peers = (
        f'[[peers]]\nname = "{target}"\nrights = ["destination"]\n{way}'
        f"[peers.retry]\nfirst_s = 0.2\ncap_s = {storm.retry_cap_s}\n"
        for target, way in ways.items()
    )
    return (
        f"[delivery]\nbatch_size = {batch_size}\n"
        f"commitment_patience_s = 2.0\nverify_age_s = {storm.verify_age_s}\n"
        + "".join(peers)
    )


@contextmanager
def _executor(processes: int) -> Iterator[Executor | None]:
    """Yield processes to compose in; None for this one."""
    if processes <= 1:
        yield None
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as executor:
        yield executor


def _prepare(scene: Scene, results: int, executor: Executor | None, show: Show) -> None:
    done = concluded(
        scene.ledger,
        scene.node.outbox,
        count=results,
        now=datetime.now(UTC),
        executor=executor,
    )
    for number in done:
        show("composing", number, results)


def _deliver(scene: Scene, results: int, show: Show) -> list[Blow]:
    """Let the node deliver everything in the storm; return the blows that fell."""
    for archive in scene.archives.values():
        archive.start()
    scene.node.start()
    siege = _Siege(scene)
    wanted = results * sum(len(kinds) for kinds in WANTED.values())
    done, made, since = 0, 0, time.monotonic()
    while done < results and time.monotonic() < since + PATIENCE_S:
        before = made
        done, made = progress(scene.ledger)
        show("delivering", made, wanted)
        siege.go_on(made / wanted)
        if made != before:
            since = time.monotonic()
        time.sleep(POLL_S)
    return siege.struck


class _Siege:
    """Strikes processes when their time has come, and lets them go on."""

    def __init__(self, scene: Scene) -> None:
        self.struck: list[Blow] = []
        self._scene = scene
        self._left = list(scene.storm.blows())
        self._down: dict[Target, tuple[float, Blow]] = {}

    def go_on(self, share: float) -> None:
        """Do what is due, now that so large a share of the deliveries is made."""
        for until, blow in list(self._down.values()):
            if until <= time.monotonic():
                del self._down[blow.target]
                self._scene.up(blow)
        for blow in self._due(share):
            self._left.remove(blow)
            self._scene.down(blow)
            self._down[blow.target] = time.monotonic() + blow.down_s, blow
            self.struck.append(blow)

    def _due(self, share: float) -> list[Blow]:
        """Return the next blow against each target that stands, where it is due."""
        first = {blow.target: blow for blow in reversed(self._left)}
        standing = (b for b in first.values() if b.target not in self._down)
        return [blow for blow in standing if blow.at <= share]


def _read_back(scene: Scene, show: Show) -> dict[Target, list[Held]]:
    """Return what the archives hold after a power cut, the node being gone."""
    scene.node.stop()
    total = len(scene.archives)
    for archive in scene.archives.values():
        archive.kill()
        archive.calm()
        archive.start()
    show("reading back", 0, total)
    with ThreadPoolExecutor(total) as executor:
        held = executor.map(lambda a: list(a.holdings()), scene.archives.values())
        found = dict(zip(scene.archives, held, strict=True))
    show("reading back", total, total)
    return found
