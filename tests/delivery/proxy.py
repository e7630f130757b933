"""A TCP proxy that delays, stalls, cuts, and refuses: a bad network, and a bad gateway.

It knows nothing of DICOM. Of HTTP it knows enough to refuse a request, as a gateway
before an archive does.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from starlette.responses import Response

from tests.delivery.plan import Fate
from tests.peers import LOOPBACK, instance_uids, split_multipart, stored

CHUNK = 64 * 1024
LONGEST_STALL_S = 30.0
START_TIMEOUT_S = 10.0
FEWEST_BYTES, MOST_BYTES = 100, 60_000_000
"""Where a connection is cut while something is sent."""
MOST_ANSWERED = 4000
"""Where one is cut while answers come back."""
OUT_OF_RESOURCES = 0xA700


class _Cut(Exception):  # noqa: N818 - it is no error of ours
    """The connection ends here."""


class Proxy:
    """Forwards connections from a port of its own, most of them unharmed.

    Parameters
    ----------
    to
        The port on loopback that it forwards to.
    fates
        How many of all connections meet each fate.
    most_bytes
        A fate strikes before so much was sent, if so much is sent at all.
    """

    def __init__(
        self,
        to: int,
        *,
        fates: Mapping[Fate, float],
        seed: int,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.port = 0
        self.faults: Counter[Fate] = Counter()
        """What it did, as often as it did it."""
        self._to = to
        self._fates = dict(fates)
        self._random = Random(seed)  # noqa: S311 - a test's own dice
        self._most_bytes = most_bytes
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._serving = threading.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        """Begin to forward."""
        self._thread.start()
        if not self._serving.wait(START_TIMEOUT_S):
            raise RuntimeError("the proxy did not start")

    def stop(self) -> None:
        """Close every connection, and end."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def calm(self) -> None:
        """Let every new connection through unharmed, from now on."""
        self._fates = {}

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._serving.set()
        await self._ended.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            fate = self._draw()
            if fate is Fate.REFUSED:
                await self._refuse(reader, writer)
            else:
                await self._forward(reader, writer, fate)
        except (OSError, EOFError, _Cut, asyncio.CancelledError):
            pass  # whoever is cut off sees it on the socket
        finally:
            self._open.discard(task)
            writer.transport.abort()

    def _draw(self) -> Fate | None:
        fates = list(self._fates)
        odds = [self._fates[fate] for fate in fates]
        drawn: Sequence[Fate | None] = self._random.choices(
            [*fates, None], [*odds, 1 - sum(odds)]
        )
        return drawn[0]

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fate: Fate | None,
    ) -> None:
        """Forward both ways until one side ends, or the fate says so."""
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._to)
        most = MOST_ANSWERED if fate is Fate.ANSWER_LOST else self._most_bytes
        after = int(FEWEST_BYTES * (most / FEWEST_BYTES) ** self._random.random())
        back = fate is Fate.ANSWER_LOST
        ways = [
            self._pump(reader, far_writer, None if back else fate, after),
            self._pump(far_reader, writer, fate if back else None, after),
        ]
        pumps = [asyncio.ensure_future(way) for way in ways]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not any(pump.exception() for pump in done):
                await writer.drain()
                writer.close()  # what is on its way arrives
                await writer.wait_closed()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            far_writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        fate: Fate | None,
        after: int,
    ) -> None:
        """Forward one way; the fate strikes once so many bytes went through."""
        passed = 0
        while chunk := await source.read(CHUNK):
            passed += len(chunk)
            if fate is not None and passed >= after:
                await self._strike(fate, source)
                fate = None
            sink.write(chunk)
            await sink.drain()

    async def _strike(self, fate: Fate, source: asyncio.StreamReader) -> None:
        self.faults[fate] += 1
        match fate:
            case Fate.LATE:
                await asyncio.sleep(self._random.uniform(0.1, 2.0))
            case Fate.DEAF:
                await asyncio.sleep(LONGEST_STALL_S)
                raise _Cut
            case Fate.MUTE:
                await asyncio.wait_for(_swallow(source), LONGEST_STALL_S)
                raise _Cut
            case _:
                raise _Cut

    async def _refuse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the first request of a connection as an archive does that cannot."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (row.partition(":") for row in head.splitlines()[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        answer = self._random.choice([_unavailable, _too_many, _conflict])
        self.faults[Fate.REFUSED] += 1
        writer.write(_encoded(answer(body, headers.get("content-type", ""))))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def _swallow(source: asyncio.StreamReader) -> None:
    while await source.read(CHUNK):
        pass


def _unavailable(_body: bytes, _content_type: str) -> Response:
    return Response(status_code=503)


def _too_many(_body: bytes, _content_type: str) -> Response:
    return Response(status_code=429, headers={"Retry-After": "1"})


def _conflict(body: bytes, content_type: str) -> Response:
    """Return that none of the instances is stored, for want of room (PS3.18 10.5.3)."""
    if not content_type.startswith("multipart/"):
        return _unavailable(body, content_type)
    uids = instance_uids(split_multipart(body, content_type))
    return stored([], failed=dict.fromkeys(uids, OUT_OF_RESOURCES))


def _encoded(response: Response) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status_code} ".encode(),
        *(name + b": " + value for name, value in response.raw_headers),
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
