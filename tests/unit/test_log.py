"""The log: every line is JSON, also those of libraries, and none quotes a value of a patient."""

import json
import logging
import warnings

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from node.log import configure_log


def test_libraries_write_json_lines_too(capsys):
    configure_log()
    try:
        raise OSError("no room")
    except OSError:
        logging.getLogger("some.library").exception("a chore %s", "failed")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"]) == ("a chore failed", "error")
    assert "OSError: no room" in line["exception"]


def test_a_warning_of_a_library_is_a_json_line(capsys):
    logging.captureWarnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_log()
        warnings.warn("an old name", stacklevel=1)
        logging.captureWarnings(False)
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "warning"
    assert "an old name" in line["event"]


def test_a_faulty_value_of_a_patient_is_not_quoted(capsys):
    with warnings.catch_warnings(record=True) as told:
        configure_log()
        dataset = Dataset()
        dataset[0x00100030] = RawDataElement(Tag(0x00100030), "DA", 8, b"196002xx", 0, False, True)
        assert dataset.PatientBirthDate == "196002xx"
    assert told == []
    assert capsys.readouterr().err == ""
