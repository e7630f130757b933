"""How a node is stopped, whichever of its threads hears of it."""

import ctypes
import signal
from pathlib import Path

from tests.integration.conftest import free_port
from tests.running import lone_node


def test_a_node_stops_whichever_thread_gets_the_signal(tmp_path: Path) -> None:
    """The kernel may choose any (signal(7)); Python's handlers run in the first."""
    node = lone_node(tmp_path, free_port(), free_port())
    node.start()
    process = node._process
    assert process is not None
    try:
        threads = [int(t.name) for t in Path(f"/proc/{process.pid}/task").iterdir()]
        another = max(set(threads) - {process.pid})
        ctypes.CDLL(None).tgkill(process.pid, another, signal.SIGTERM)

        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
