"""The walk over an encoded data set: finds what is asked, refuses what is cut, never trusts a length."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from node.dicom.reception.elements import MAXIMUM_DEPTH, IdentityReader, read_identity
from node.errors import InstanceRefused
from node.study import PRODUCT_NAME
from node.testing import SyntheticSlice, make_slice


def encode(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def read(data: bytes, syntax: str = ExplicitVRLittleEndian):
    return read_identity(data, 0, syntax, PRODUCT_NAME)


SLICE = SyntheticSlice(position_mm=-12.5, acquisition=4)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_identity_is_read_in_every_native_transfer_syntax(syntax):
    identity = read(encode(make_slice(SLICE), syntax), syntax)
    assert identity.sop_instance_uid == SLICE.instance
    assert identity.study_instance_uid == SLICE.study
    assert identity.series_instance_uid == SLICE.series
    assert (identity.modality, identity.acquisition, identity.position_mm) == ("CT", "4", -12.5)
    assert not identity.ours


def test_encapsulated_pixels_are_walked_fragment_by_fragment():
    dataset = make_slice(SLICE)
    dataset.PixelData = encapsulate([b"\xff\xd8 one", b"\xff\xd8 two!"])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    data = encode(dataset)
    assert read(data, JPEGLSLossless).sop_instance_uid == SLICE.instance
    with pytest.raises(InstanceRefused):
        read(data[:-8], JPEGLSLossless)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_data_set_cut_anywhere_is_refused(syntax):
    dataset = make_slice(SLICE)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    data = encode(dataset, syntax)
    assert read(data, syntax).sop_instance_uid == SLICE.instance
    for end in range(len(data)):
        with pytest.raises(InstanceRefused):
            read(data[:end], syntax)


def test_fewer_pixels_than_the_header_says_are_refused_with_both_numbers():
    dataset = make_slice(SLICE)
    dataset.PixelData = bytes(100)
    with pytest.raises(InstanceRefused, match="100 bytes of pixels, expected 512"):
        read(encode(dataset))


def test_our_own_result_is_recognised_by_its_contributing_equipment():
    dataset = make_slice(SLICE)
    equipment = Dataset()
    equipment.Manufacturer = "somebody"
    equipment.ManufacturerModelName = PRODUCT_NAME
    dataset.ContributingEquipmentSequence = Sequence([equipment])
    assert read(encode(dataset)).ours
    equipment.ManufacturerModelName = "another product"
    assert not read(encode(dataset)).ours


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", [None, "../../etc/passwd", "1..2", "1." * 40 + "1"])
def test_a_missing_or_malformed_uid_is_refused(keyword, value):
    dataset = make_slice(SLICE)
    del dataset[keyword]
    if value is not None:
        dataset.add_new(keyword, "UT", value)
    data = encode(dataset)
    with pytest.raises(InstanceRefused, match="no valid"):
        read(data)


def test_sequences_nested_without_end_are_refused():
    depth = MAXIMUM_DEPTH + 2
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    with pytest.raises(InstanceRefused, match="nested"):
        read(opening * depth)


def test_an_absurd_number_of_frames_is_refused():
    dataset = make_slice(SLICE)
    dataset.add_new("NumberOfFrames", "LO", "9" * 30)
    with pytest.raises(InstanceRefused, match="frames"):
        read(encode(dataset))


def test_the_study_is_found_in_the_first_bytes():
    data = encode(make_slice(SLICE))
    assert IdentityReader(ExplicitVRLittleEndian).read_prefix(data[:400]) == SLICE.study
    assert IdentityReader(ExplicitVRLittleEndian).read_prefix(data[:20]) == ""


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_data_set_read_from_a_prefix_of_any_length_says_the_same_as_in_one_go(syntax):
    dataset = make_slice(SLICE)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    data = encode(dataset, syntax)
    for length in range(len(data) + 1):
        reader = IdentityReader(syntax)
        reader.read_prefix(data[:length])
        assert reader.read_whole(b"meta" + data, 4, PRODUCT_NAME) == read(data, syntax)
        reader = IdentityReader(syntax)
        reader.read_prefix(data[:length])
        with pytest.raises(InstanceRefused):
            reader.read_whole(b"meta" + data[:-1], 4, PRODUCT_NAME)


@given(
    st.binary(max_size=400),
    st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]),
)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_noise_is_refused_and_nothing_else(data, syntax):
    with pytest.raises(InstanceRefused):
        read(data, syntax)


@given(st.integers(0, 600), st.integers(0, 255))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_one_changed_byte_gives_an_identity_or_a_refusal(position, value):
    data = bytearray(encode(make_slice(SLICE)))
    data[position % len(data)] = value
    with suppress(InstanceRefused):  # every other exception fails
        assert read(bytes(data)).sop_instance_uid
