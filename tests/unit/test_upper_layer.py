"""Association requests and command sets: read as pynetdicom writes them, refused within bounds when broken."""

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context

from node.dicom.reception.access import STORAGE_COMMITMENT, negotiate_contexts
from node.dicom.reception.command import Command, encode_response, parse_command
from node.dicom.reception.pdu import (
    APPLICATION_CONTEXT,
    PduFault,
    Rejection,
    encode_associate_accept,
    encode_associate_reject,
    parse_associate_request,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.80"
DEFLATED = "1.2.840.10008.1.2.1.99"


def request_of_pynetdicom(*contexts: tuple[str, list[str]], role: bool = False) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "SCANNER", "MMFNODE"
    primitive.presentation_context_definition_list = [build_context(*context) for context in contexts]
    for index, context in enumerate(primitive.presentation_context_definition_list):
        context.context_id = 2 * index + 1
    maximum, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    maximum.maximum_length_received = 32_768
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [maximum, implementation]
    if role:
        selection = SCP_SCU_RoleSelectionNegotiation()
        selection.sop_class_uid, selection.scu_role, selection.scp_role = STORAGE_COMMITMENT, False, True
        primitive.user_information.append(selection)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def test_a_request_written_by_pynetdicom_is_read():
    request = parse_associate_request(request_of_pynetdicom((CT, [EXPLICIT, JPEG_LS]), role=True)[6:])
    assert (request.calling_ae_title, request.called_ae_title) == ("SCANNER", "MMFNODE")
    assert request.application_context == APPLICATION_CONTEXT
    assert request.maximum_pdu_bytes == 32_768
    (context,) = request.contexts
    assert (context.abstract_syntax, context.transfer_syntaxes) == (CT, (EXPLICIT, JPEG_LS))
    (role,) = request.roles
    assert (role.scu, role.scp) == (False, True)


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([JPEG_LS, EXPLICIT], JPEG_LS),
        ([DEFLATED, IMPLICIT], IMPLICIT),
        ([DEFLATED], None),
        (["1.2.3.4"], None),
    ],
)
def test_the_transfer_syntax_is_chosen_so_that_objects_come_as_they_are(proposed, chosen):
    answers, _ = negotiate_contexts(parse_associate_request(request_of_pynetdicom((CT, proposed))[6:]))
    assert answers[0].result == (0 if chosen else 4)
    if chosen:
        assert answers[0].transfer_syntax == chosen


def test_an_unknown_class_is_refused_by_context_and_the_peer_reads_it_so():
    request = parse_associate_request(
        request_of_pynetdicom(
            (CT, [EXPLICIT]), ("1.2.3.4", [EXPLICIT]), (STORAGE_COMMITMENT, [IMPLICIT]), role=True
        )[6:]
    )
    answers, roles = negotiate_contexts(request)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(encode_associate_accept(request, answers, roles, 131_072))
    primitive = pdu.to_primitive()
    results = {
        context.context_id: context.result
        for context in primitive.presentation_context_definition_results_list
    }
    assert results == {1: 0, 3: 3, 5: 0}
    assert primitive.maximum_length_received == 131_072
    (role,) = [
        item for item in primitive.user_information if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    ]
    assert (role.scu_role, role.scp_role) == (False, True)


def test_a_rejection_is_read_by_pynetdicom():
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(encode_associate_reject(Rejection(permanent=True, source=1, reason=7, why="")))
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == (1, 1, 7)


@given(st.binary(max_size=300))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_noise_in_a_request_is_a_fault_and_nothing_else(noise):
    with pytest.raises(PduFault):
        parse_associate_request(noise)


@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_one_changed_byte_or_a_cut_gives_a_request_or_a_fault(position, value, cut):
    body = bytearray(request_of_pynetdicom((CT, [EXPLICIT, JPEG_LS]), role=True)[6:])
    position %= len(body)
    body[position] = value
    with suppress(PduFault):  # every other exception fails
        request = parse_associate_request(bytes(body[:position] if cut else body))
        answers, _ = negotiate_contexts(request)
        assert len(answers) == len(request.contexts)


def store_command_of_pynetdicom() -> bytes:
    primitive = C_STORE()
    primitive.MessageID, primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = 77, CT, "1.2.3"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"\0" * 8)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    return encode(message.command_set, True, True)


def test_a_store_command_written_by_pynetdicom_is_read():
    command = parse_command(store_command_of_pynetdicom())
    assert command == Command(
        field=1, message_id=77, has_data_set=True, sop_class_uid=CT, sop_instance_uid="1.2.3"
    )


def test_a_response_is_read_by_pynetdicom():
    command = Command(field=1, message_id=77, has_data_set=True, sop_class_uid=CT, sop_instance_uid="1.2.3")
    response = decode(BytesIO(encode_response(command, 0xA700, "disk full " * 20)), True, True)
    assert response.CommandField == 0x8001
    assert response.MessageIDBeingRespondedTo == 77
    assert response.Status == 0xA700
    assert response.CommandDataSetType == 0x0101
    assert response.AffectedSOPInstanceUID == "1.2.3"
    assert len(response.ErrorComment) <= 64
    assert response.CommandGroupLength == len(encode_response(command, 0xA700, "disk full " * 20)) - 12


@given(st.binary(max_size=200))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_noise_in_a_command_is_a_fault_and_nothing_else(noise):
    with pytest.raises(PduFault):
        parse_command(noise)
