"""Weights of the official size to a pack: seconds and memory of import and verify.

The file holds zeros and is sparse, so the disk has no say; it is removed at the end.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.releases import with_older_names, write_hollow


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    tokenizer = parser.parse_args().tokenizer
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_hollow(folder / "weights.pt")
        importing(folder / "weights.pt", tokenizer, folder / "pack")
        measure("verify", "pack", "verify", folder / "pack")
        save_file(with_older_names(load_file(folder / "weights.pt")), folder / "old.pt")
        importing(folder / "old.pt", tokenizer, folder / "renamed")


def importing(weights: Path, tokenizer: Path, out: Path) -> None:
    """Print how long an import takes."""
    places = {"--weights": weights, "--tokenizer": tokenizer, "--out": out}
    options = [str(part) for pair in places.items() for part in pair]
    command = ["pack", "import", "medimageinsight", "--allow-unofficial", *options]
    measure(f"import of {weights.name}", *command)


def measure(what: str, *command: str | Path) -> None:
    """Print the time of a command, and the most memory that any has taken so far."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "workers", *map(str, command)],
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{what}: {seconds:.1f} s, peak so far {peak:.0f} MiB, mapped file included")


if __name__ == "__main__":
    main()
