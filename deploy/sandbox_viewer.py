"""The sandbox's viewer: is it up, or why not, and where in it a study is to be seen."""

from sandbox_services import HOST, Ports, SandboxError, Service, viewer_answers
from viewer_package import NPM_TIMEOUT_S, SIZE_MB, VERSION, is_there

START_TIMEOUT_S = NPM_TIMEOUT_S + 60.0
NOT_TO_BE_HAD = 3


def introduction(ports: Ports) -> str:
    """Return what is started, and whether it has to be fetched first."""
    first = (
        "" if is_there() else f",\n            to be downloaded now: {SIZE_MB} MB, once"
    )
    return f"OHIF {VERSION}, {address(ports)}{first}"


def await_viewer(viewer: Service, ports: Ports) -> str | None:
    """Return None once it answers, or why there will be none.

    Raises
    ------
    SandboxError
        If it fails though it could be had.
    """
    try:
        viewer.await_ready(lambda: viewer_answers(ports), timeout_s=START_TIMEOUT_S)
    except SandboxError:
        if viewer.process.poll() != NOT_TO_BE_HAD:
            raise
        return viewer.log.read_text(errors="replace").splitlines()[-1]
    return None


def address(ports: Ports) -> str:
    """Return where its list of studies is."""
    return f"http://{HOST}:{ports.viewer}"


def study_address(ports: Ports, study_uid: str) -> str:
    """Return where a study is shown, its page beside the image."""
    query = f"StudyInstanceUIDs={study_uid}&hangingProtocolId=pacsight"
    return f"{address(ports)}/viewer?{query}"
