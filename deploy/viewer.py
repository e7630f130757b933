"""OHIF beside an Orthanc, on this machine alone: fetched if need be, then served.

Exit status: 3 if OHIF could not be had; the last line says why.
"""

import argparse
import sys
from pathlib import Path

import uvicorn
from sandbox_services import HOST, REPOSITORY, SandboxError
from viewer_app import viewer_app
from viewer_package import CACHE, fetch

CONFIG = REPOSITORY / "orthanc" / "ohif-config.js"
NOT_TO_BE_HAD = 3


def main() -> int:
    """Serve OHIF until the process is ended."""
    parser = argparse.ArgumentParser(description="OHIF beside an Orthanc")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--orthanc", default=f"http://{HOST}:8042")
    parser.add_argument("--work", type=Path, default=CACHE / "ohif-download")
    arguments = parser.parse_args()
    try:
        pages = fetch(arguments.work)
    except SandboxError as error:
        print(error, file=sys.stderr, flush=True)
        return NOT_TO_BE_HAD
    uvicorn.run(
        viewer_app(pages, CONFIG, arguments.orthanc),
        host=HOST,
        port=arguments.port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
