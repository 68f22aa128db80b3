"""Our own results that come back from a PACS: kept, recognised, and never the start of a new assessment."""

import pydicom
from pydicom.uid import Comprehensive3DSRStorage

from node.dicom.send import SendSettings, send_objects
from node.ports import Answer
from node.report.bundle import write_objects
from tests.report_study import ct_header, make_report, make_sources


def test_orthanc_routes_our_results_back_and_no_study_opens(open_reception, open_orthanc, tmp_path):
    out = tmp_path / "out"
    report = write_objects(make_report(), make_sources(tmp_path, ct_header(patient=True)), out)
    paths = [out / entry.path for entry in report.objects]
    reception = open_reception()
    orthanc = open_orthanc({"node": {"AET": "MMFNODE", "Host": "127.0.0.1", "Port": reception.peer.port}})
    answers = send_objects(paths, orthanc.peer, SendSettings())
    assert {one.answer for one in answers} == {Answer.STORED}
    orthanc.post("/modalities/node/store", orthanc.get("/studies"))
    assert reception.inbox.record() == len(paths)
    study = pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID
    arrivals = reception.inbox.arrivals(study)
    assert len(arrivals) == len(paths)
    assert all(arrival.identity.ours for arrival in arrivals)
    assert Comprehensive3DSRStorage in {arrival.identity.sop_class_uid for arrival in arrivals}
    assert reception.inbox.open_studies() == ()
