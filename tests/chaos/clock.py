"""The wall clock of a run's processes, set while they run: a shim in C, preloaded."""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that is wrong by as much as it is told."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """Return what a process needs in its environment to go by it."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._offset)}

    def make(self) -> None:
        """Compile it; it is right then."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("there is no C compiler: apt install gcc")
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE)]
        subprocess.run([compiler, *words, "-ldl"], check=True)
        self._offset.write_bytes(struct.pack("<q", 0))

    def jump(self, by_s: float) -> None:
        """Let it be wrong by so many seconds, from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("<q", int(by_s * 1e9)))

    @property
    def _library(self) -> Path:
        return self.folder / "clock.so"

    @property
    def _offset(self) -> Path:
        return self.folder / "offset"
