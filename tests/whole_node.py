"""A whole node in this process: the real receiver, queue, assessment and delivery, and an archive, worked off on request."""

from datetime import timedelta
from functools import partial

from node.app import RESULTS_NAME, assess_job, tell_job_failure
from node.completeness import CompletenessRules
from node.dicom.archive import EmbeddedArchive
from node.dicom.reception.access import ListenerSettings
from node.dicom.send import PeerAddress, SendSettings, StorageDestination, send_objects
from node.processes import SystemClock
from node.schedule import Caretaker, keep_results
from node.settings import read_settings
from node.storage.jobs import SqliteJobs
from node.worker import Worker, WorkRules
from tests.peers.conftest import Reception


class Later(SystemClock):
    """A clock that is an hour ahead: no study is waited for."""

    def now(self):
        return super().now() + timedelta(hours=1)


class WholeNode:
    """One node with its archive; ``work`` closes, assesses and delivers what has arrived."""

    def __init__(self, folder, changes):
        self.data = folder / "data"
        self.settings = read_settings(data=self.data, changes=changes)
        self.reception = Reception(self.data, ListenerSettings(port=0))
        self.archive = EmbeddedArchive(folder / "archive")
        self.archive.start()
        self.jobs = SqliteJobs(self.data / "node.sqlite")
        self.clock = Later()
        self.assess = partial(assess_job, self.settings)
        self.worker = Worker(
            name="w", jobs=self.jobs, clock=self.clock, rules=WorkRules(assessment_tries=1, delivery_tries=1)
        )

    def receive(self, paths):
        """Sends files to it as a scanner does and returns its answers."""
        return send_objects(sorted(paths), self.reception.peer, SendSettings(ae_title="SCANNER"))

    def work(self):
        """Closes, assesses and delivers what is there."""
        caretaker = Caretaker(
            inbox=self.reception.inbox,
            jobs=self.jobs,
            traffic=self.reception.traffic,
            clock=self.clock,
            rules=CompletenessRules(),
            assessment_tries=1,
            keep_days=0,
            remove_results=keep_results,
        )
        caretaker.close_studies()
        while self.worker.assess_next(self.assess, partial(tell_job_failure, self.settings)):
            pass
        peer = PeerAddress(host="127.0.0.1", port=self.archive.port, ae_title="ARCHIVE")
        while self.worker.deliver_next(StorageDestination(peer, SendSettings())):
            pass

    def results_of(self, job):
        """The folder of a job's results."""
        return self.data / RESULTS_NAME / str(job.job_id)

    def close(self):
        """Ends it and its archive."""
        self.jobs.close()
        self.archive.stop()
        self.reception.close()
