"""Who may call: titles, addresses, limits; and where the node refuses to listen at all."""

import ipaddress
from collections import Counter

import pytest

from node.dicom.reception.access import Caller, ListenerSettings, check_exposure, find_rejection
from node.dicom.reception.pdu import APPLICATION_CONTEXT, AssociateRequest, ProposedContext
from node.errors import SettingsRefused

CONTEXT = ProposedContext(
    context_id=1, abstract_syntax="1.2.840.10008.1.1", transfer_syntaxes=("1.2.840.10008.1.2",)
)


def ask(
    called: str = "MMFNODE", calling: str = "SCANNER", application: str = APPLICATION_CONTEXT
) -> AssociateRequest:
    return AssociateRequest(
        called_ae_title=called, calling_ae_title=calling, application_context=application, contexts=(CONTEXT,)
    )


LISTED = ListenerSettings(
    callers=(
        Caller(ae_title="SCANNER", network=ipaddress.IPv4Network("10.1.0.0/16")),
        Caller(ae_title="ANYWHERE"),
    )
)


@pytest.mark.parametrize(
    ("request_", "address", "settings", "reason"),
    [
        (ask(), "127.0.0.1", ListenerSettings(), None),
        (ask(calling="ANYONE"), "127.0.0.1", ListenerSettings(), None),
        (ask(called="OTHER"), "127.0.0.1", ListenerSettings(), 7),
        (ask(application="1.2.3"), "127.0.0.1", ListenerSettings(), 2),
        (ask(), "10.1.2.3", LISTED, None),
        (ask(), "::ffff:10.1.2.3", LISTED, None),
        (ask(), "2001:db8::1", LISTED, 3),
        (ask(), "10.2.2.3", LISTED, 3),
        (ask(calling="ANYWHERE"), "192.0.2.1", LISTED, None),
        (ask(calling="STRANGER"), "10.1.2.3", LISTED, 3),
    ],
)
def test_titles_and_addresses_decide(request_, address, settings, reason):
    rejection = find_rejection(request_, address, Counter(), settings)
    assert (rejection.reason if rejection else None) == reason
    if rejection:
        assert rejection.permanent


@pytest.mark.parametrize("open_now", [{"127.0.0.1": 2}, {"192.0.2.1": 5}])
def test_limits_reject_for_the_moment_only(open_now):
    settings = ListenerSettings(maximum_associations=5, maximum_per_address=2)
    rejection = find_rejection(ask(), "127.0.0.1", Counter(open_now), settings)
    assert rejection is not None
    assert not rejection.permanent


@pytest.mark.parametrize(
    ("address", "callers", "words"),
    [
        ("192.0.2.7", (), "allowed callers"),
        ("192.0.2.9", (Caller(ae_title="SCANNER"),), "has no address"),
        ("::", (), "allowed callers"),
    ],
)
def test_an_open_address_without_a_list_is_refused(address, callers, words):
    with pytest.raises(SettingsRefused, match=words):
        check_exposure(ListenerSettings(address=address, callers=callers))


def test_loopback_and_a_full_list_are_fine():
    check_exposure(ListenerSettings())
    check_exposure(ListenerSettings(address="::1"))
    network = ipaddress.ip_network("10.0.0.0/8")
    check_exposure(
        ListenerSettings(address="192.0.2.9", callers=(Caller(ae_title="SCANNER", network=network),))
    )
