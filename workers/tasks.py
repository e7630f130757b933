"""Celery's tasks: thin skins over the pipeline. Names are wire protocol."""

import time

import structlog
from celery import Celery

from dicom_node.dispatch import CONCLUDE_STUDY, EMBED_BATCH
from dicom_node.errors import PacsightError, Transient
from workers.pipeline import Bench, conclude_study, embed_batch
from workers.watch import Watch

PAUSE_S = 1.0
"""After what may work later: it is given back, and handed out again at once."""

log = structlog.get_logger(__name__)


def register(app: Celery, bench: Bench, watch: Watch) -> None:
    """Let the app's worker do the two tasks, with what lies on the bench.

    An error ends here, in the log: the ledger knows that the work is not done, and
    hands it out again.
    """

    @app.task(name=EMBED_BATCH)
    def _embed_batch(batch_id: int) -> None:
        try:
            with watch.task():
                embed_batch(batch_id, bench)
        except PacsightError as error:
            log.error("batch_failed", batch=batch_id, error=str(error))  # noqa: TRY400 - the message says it all
            _pause_after(error)

    @app.task(name=CONCLUDE_STUDY)
    def _conclude_study(job_id: int) -> None:
        try:
            with watch.task():
                conclude_study(job_id, bench)
        except PacsightError as error:
            log.error("job_failed", job=job_id, error=str(error))  # noqa: TRY400 - the message says it all
            _pause_after(error)


def _pause_after(error: PacsightError) -> None:
    if isinstance(error, Transient):
        time.sleep(PAUSE_S)
