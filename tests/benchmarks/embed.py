"""From files on disk to the embedding of a volume: a CT of 300 slices, every one embedded.

The command as a researcher runs it, ``pacsight embed FOLDER --volumes median``, with the
demo pack on uncompressed slices of 512 x 512. Two times: the command's own, from the
first file to the last byte of the result, and that of the whole process, in which
Python, torch and the model are loaded first. ``python tests/benchmarks/embed.py``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pydicom import dcmwrite

sys.path.insert(0, str(Path(__file__).parents[2]))

from workers.phantoms import datasets, phantom

SLICES = 300
COMMAND = [sys.executable, "-m", "workers", "embed", "--pack", "phantoms", "--json"]


def write(folder: Path) -> None:
    """Write the series."""
    folder.mkdir()
    instances = datasets(phantom("haemorrhage", 200), slices=SLICES)
    for number, one in enumerate(instances):
        dcmwrite(folder / f"{number:04}.dcm", one, enforce_file_format=True)


def embed(folder: Path, out: Path) -> tuple[float, float]:
    """Return the seconds that the command says, and those of the process."""
    begun = time.perf_counter()
    words = [*COMMAND, "--volumes", "median", "--out", str(out), str(folder)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    spent = time.perf_counter() - begun
    said = json.loads(done.stdout)
    assert (said["frames"], said["volumes"]) == (SLICES, 1), said
    return float(said["seconds"]), spent


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ct"
        write(folder)
        pairs = [
            embed(folder, Path(name) / "out.safetensors") for _ in range(rounds + 1)
        ][1:]  # the first also brings the files into memory
    own, whole = (sorted(times) for times in zip(*pairs, strict=True))
    print(f"CT of {SLICES} slices, files to volume embedding, median of {rounds}")
    for label, times in (("first file to result", own), ("whole process", whole)):
        print(
            f"  {label:<22}{statistics.median(times):6.2f} s  (slowest {times[-1]:.2f} s)"
        )


if __name__ == "__main__":
    main()
