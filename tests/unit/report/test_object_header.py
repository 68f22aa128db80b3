"""Head of every object: the patient as in the study, the time in the study's zone, the maker known again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydicom.dataset import Dataset

from engines.phase import Phase
from node.report import capture
from node.report.header import list_undecoded, localise, series_description, stamp
from node.report.pdf import encapsulate
from node.report.seg import seg_place
from node.report.sr import document
from node.report.validate import list_faults
from tests.report_study import make_report

PLACES = (document.PLACE, encapsulate.PLACE, capture.PLACE, *(seg_place(phase) for phase in Phase))


def test_every_description_says_research_use_and_what_is_artificial():
    report = replace(make_report(), synthetic=True)
    for place in PLACES:
        words = series_description(place.title, report)
        assert len(words) <= 64
        for part in (place.title, "RESEARCH USE ONLY", "DEMO MODEL", "SYNTHETIC"):
            assert part in words


def test_series_numbers_and_kinds_differ():
    assert len({place.series_number for place in PLACES}) == len(PLACES)
    assert len({place.kind for place in PLACES}) == len(PLACES)


@pytest.mark.parametrize(("offset", "hours"), [("+0800", 8), ("-0330", -3.5), ("+0000", 0)])
def test_times_stand_in_the_zone_of_the_study(offset, hours):
    source = Dataset()
    source.TimezoneOffsetFromUTC = offset
    local = localise(datetime(2026, 3, 5, 22, 0, tzinfo=UTC), source)
    assert local.utcoffset() == timedelta(hours=hours)
    assert local == datetime(2026, 3, 5, 22, 0, tzinfo=UTC)


def test_stamping_leaves_nothing_of_another_patient(envelope):
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    dataset.PatientName, dataset.PatientID, dataset.PatientAge = "Other^Person", "X", "050Y"
    stamp(dataset, envelope, encapsulate.PLACE, sop_instance_uid="1.2.3")
    assert dataset.PatientID == "SYN-0001"
    assert "PatientAge" not in dataset
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3"


def test_retrained_models_are_another_device(envelope):
    model = replace(envelope.report.models[0], sha256="cd" * 32)
    other = replace(envelope, report=replace(envelope.report, models=(model,)))
    assert other.device_uid != envelope.device_uid
    assert other.serial_number != envelope.serial_number


def test_unreadable_attributes_are_named():
    source = Dataset()
    source.SpecificCharacterSet = "ISO_IR 192"
    source.PatientName = "Wang\N{REPLACEMENT CHARACTER}"
    source.PatientID = "1"
    (told,) = list_undecoded(source)
    assert told.startswith("Patient's Name")
    assert "ISO_IR 192" in told


def test_letters_beyond_ascii_without_a_character_set_are_named():
    source = Dataset()
    source.PatientName = "Müller^René"
    source.PatientID = "1"
    (told,) = list_undecoded(source)
    assert "(none) does not know" in told


def test_chinese_texts_of_iso_2022_lose_their_escape_sequences_and_no_letter(envelope):
    source = Dataset()
    source.SpecificCharacterSet = ["", "ISO 2022 IR 58"]
    source.PatientName = "Zhang^XiaoDong=\x1b$)A张^\x1b$)A小东"
    source.PatientID = "1"
    source.StudyDescription = "\x1b$)A肝脏"
    item = Dataset()
    item.PatientID, item.IssuerOfPatientID = "2", "\x1b$)A医院"
    source.OtherPatientIDsSequence = [item]
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    stamp(dataset, replace(envelope, source=source), encapsulate.PLACE, sop_instance_uid="1.2.3")
    assert dataset.PatientName == "Zhang^XiaoDong=张^小东"
    assert dataset.StudyDescription == "肝脏"
    assert dataset.OtherPatientIDsSequence[0].IssuerOfPatientID == "医院"
    assert item.IssuerOfPatientID == "\x1b$)A医院"


@pytest.mark.parametrize(("uid", "passes"), [("1.2.03.4", True), ("1.2..4", False), ("1.a", False)])
def test_a_uid_of_the_study_is_referred_to_as_it_is_if_it_is_one_but_for_zeros(envelope, uid, passes):
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    stamp(dataset, envelope, encapsulate.PLACE, sop_instance_uid="1.2.3")
    dataset.FrameOfReferenceUID = uid
    faults = list_faults(dataset, study_instance_uid=dataset.StudyInstanceUID, known_uids=frozenset())
    assert any("FrameOfReferenceUID" in fault for fault in faults) is not passes
