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
    """A clock that is an hour ahead, so that no study is waited for, and can be moved on."""

    def __init__(self):
        self.ahead = timedelta(hours=1)

    def now(self):
        return super().now() + self.ahead


class WholeNode:
    """One node with its archive; ``work`` closes, assesses and delivers what has arrived."""

    def __init__(self, folder, changes, rules=None):
        self.data = folder / "data"
        self.settings = read_settings(data=self.data, changes=changes)
        self.reception = Reception(self.data, ListenerSettings(port=0))
        self.archive = EmbeddedArchive(folder / "archive")
        self.archive.start()
        self.jobs = SqliteJobs(self.data / "node.sqlite")
        self.clock = Later()
        self.assess = partial(assess_job, self.settings)
        rules = rules or WorkRules(assessment_tries=1, delivery_tries=1)
        self.worker = Worker(name="w", jobs=self.jobs, clock=self.clock, rules=rules)
        peer = PeerAddress(host="127.0.0.1", port=self.archive.port, ae_title="ARCHIVE")
        self.destination = StorageDestination(peer, SendSettings())

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
        while self.worker.deliver_next(self.destination):
            pass

    def results_of(self, job):
        """The folder of a job's results."""
        return self.data / RESULTS_NAME / str(job.job_id)

    def close(self):
        """Ends it and its archive."""
        self.jobs.close()
        self.archive.stop()
        self.reception.close()
