"""Who may open an association, and on what terms: titles, addresses, limits, presentation contexts. Pure."""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from node.dicom.reception.elements import DEFLATED, IMPLICIT_LITTLE_ENDIAN
from node.dicom.reception.pdu import (
    APPLICATION_CONTEXT,
    AcceptedContext,
    AssociateRequest,
    ProposedContext,
    Rejection,
    Role,
)
from node.errors import SettingsRefused

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
VERIFICATION: str = str(Verification)
STORAGE_COMMITMENT: str = str(StorageCommitmentPushModel)

ACCEPTANCE, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = 0, 3, 4
"""Results of a presentation context (PS3.8 table 9-18)."""

_USER, _PRESENTATION = 1, 3
_APPLICATION_CONTEXT_NOT_SUPPORTED, _CALLING_TITLE_NOT_RECOGNIZED, _CALLED_TITLE_NOT_RECOGNIZED = 2, 3, 7
_LOCAL_LIMIT_EXCEEDED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A peer that may open associations; ``network`` None = from any address."""

    ae_title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """How the storage SCP listens.

    Attributes:
        address: to bind, numeric; another than loopback needs ``callers``.
        port: 0 = a free one.
        callers: who may call; empty = any calling title, on loopback only.
        maximum_associations: open at once, all peers together.
        maximum_per_address: open at once from one address.
        maximum_greeting: connections that have not yet sent a whole A-ASSOCIATE-RQ.
        greeting_seconds: for the whole A-ASSOCIATE-RQ (PS3.8 9.1.5, ARTIM).
        pdu_seconds: for one PDU, from its first byte to its last.
        message_seconds: without a PDU inside an object.
        idle_seconds: between messages.
        spare_seconds: an association idle for longer makes room when all places are taken.
        stop_seconds: given to objects in transfer when the node ends.
        maximum_pdu_bytes: offered to peers, and refused above.
        maximum_object_bytes: one data set.
    """

    ae_title: str = "MMFNODE"
    address: str = "127.0.0.1"
    port: int = 11112
    callers: tuple[Caller, ...] = ()
    maximum_associations: int = 20
    maximum_per_address: int = 15
    maximum_greeting: int = 256
    greeting_seconds: float = 10.0
    pdu_seconds: float = 15.0
    message_seconds: float = 60.0
    idle_seconds: float = 600.0
    spare_seconds: float = 30.0
    stop_seconds: float = 5.0
    maximum_pdu_bytes: int = 262_144
    maximum_object_bytes: int = 4 << 30


def check_exposure(settings: ListenerSettings) -> None:
    """Returns nothing when the listener may start as it is set.

    Raises:
        SettingsRefused: it would be open to other machines without an allow-list, or a caller without an address.
    """
    if ipaddress.ip_address(settings.address).is_loopback:
        return
    faults = []
    if not settings.callers:
        faults.append(
            f"listening on {settings.address} needs a list of allowed callers (calling AE title and address of each)"
        )
    faults.extend(
        f"caller {caller.ae_title} has no address; on {settings.address} each needs one"
        for caller in settings.callers
        if caller.network is None
    )
    if faults:
        raise SettingsRefused(faults)


def find_rejection(
    request: AssociateRequest, address: str, open_by_address: Counter[str], settings: ListenerSettings
) -> Rejection | None:
    """Returns why an association is not accepted, or None.

    Args:
        request: what the peer asks.
        address: where it calls from.
        open_by_address: associations open now.
        settings: the listener's.

    Source: PS3.8 9.3.4, table 9-21.
    """
    if request.application_context != APPLICATION_CONTEXT:
        return _reject(
            _USER, _APPLICATION_CONTEXT_NOT_SUPPORTED, f"application context {request.application_context!r}"
        )
    if request.called_ae_title != settings.ae_title:
        return _reject(
            _USER,
            _CALLED_TITLE_NOT_RECOGNIZED,
            f"called AE title {request.called_ae_title!r}, ours is {settings.ae_title!r}",
        )
    if settings.callers and not any(_is_caller(request, address, caller) for caller in settings.callers):
        return _reject(
            _USER,
            _CALLING_TITLE_NOT_RECOGNIZED,
            f"calling AE title {request.calling_ae_title!r} from {address} is not on the list",
        )
    if open_by_address.total() >= settings.maximum_associations:
        return _limit(f"{settings.maximum_associations} associations are open")
    if open_by_address[address] >= settings.maximum_per_address:
        return _limit(f"{settings.maximum_per_address} associations from {address} are open")
    return None


def negotiate_contexts(request: AssociateRequest) -> tuple[tuple[AcceptedContext, ...], tuple[Role, ...]]:
    """Returns the answers to the proposed contexts and roles.

    Every storage class is taken in every transfer syntax that keeps the data set readable without inflating it;
    objects are stored as they come. Explicit VR Little Endian is preferred to other native syntaxes, otherwise the
    peer's own order counts. Storage Commitment is taken with the peer as SCP: its reports come to us.
    """
    proposed_roles = {role.sop_class_uid: role for role in request.roles}
    answers, roles = [], []
    for context in request.contexts:
        answers.append(_answer(context))
    commitment = proposed_roles.get(STORAGE_COMMITMENT)
    if commitment is not None:
        roles.append(Role(sop_class_uid=STORAGE_COMMITMENT, scu=commitment.scu, scp=commitment.scp))
    return tuple(answers), tuple(roles)


def storage_classes() -> frozenset[str]:
    """Returns the SOP Class UIDs that are stored (PS3.4 B.5)."""
    return _STORAGE


def transfer_syntaxes() -> frozenset[str]:
    """Returns the transfer syntaxes that are taken for storage."""
    return _SYNTAXES


def _read_syntaxes() -> frozenset[str]:
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    return frozenset(str(syntax) for syntax in ALL_TRANSFER_SYNTAXES) - DEFLATED


_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_SYNTAXES = _read_syntaxes()


def _answer(context: ProposedContext) -> AcceptedContext:
    if context.abstract_syntax in _STORAGE:
        usable = [syntax for syntax in context.transfer_syntaxes if syntax in _SYNTAXES]
    elif context.abstract_syntax in {VERIFICATION, STORAGE_COMMITMENT}:
        usable = [
            syntax
            for syntax in context.transfer_syntaxes
            if syntax in {IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN}
        ]
    else:
        return _refuse(context, ABSTRACT_SYNTAX_NOT_SUPPORTED)
    if not usable:
        return _refuse(context, TRANSFER_SYNTAXES_NOT_SUPPORTED)
    chosen = usable[0]
    if not UID(chosen).is_compressed and EXPLICIT_LITTLE_ENDIAN in usable:
        chosen = EXPLICIT_LITTLE_ENDIAN
    return AcceptedContext(
        context_id=context.context_id,
        abstract_syntax=context.abstract_syntax,
        transfer_syntax=chosen,
        result=ACCEPTANCE,
    )


def _refuse(context: ProposedContext, result: int) -> AcceptedContext:
    """The transfer syntax of a refused context is not significant, but must be there (PS3.8 9.3.3.2)."""
    return AcceptedContext(
        context_id=context.context_id,
        abstract_syntax=context.abstract_syntax,
        transfer_syntax=IMPLICIT_LITTLE_ENDIAN,
        result=result,
    )


def _is_caller(request: AssociateRequest, address: str, caller: Caller) -> bool:
    if request.calling_ae_title != caller.ae_title:
        return False
    if caller.network is None:
        return True
    host = ipaddress.ip_address(address)
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped  # an IPv4 peer on a socket of both families
    return host in caller.network


def _reject(source: int, reason: int, why: str) -> Rejection:
    return Rejection(permanent=True, source=source, reason=reason, why=why)


def _limit(why: str) -> Rejection:
    return Rejection(permanent=False, source=_PRESENTATION, reason=_LOCAL_LIMIT_EXCEEDED, why=why)
