"""Content items of the structured report, and the identification of the algorithm that every number carries."""

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.sr.coding import Code

from node.report import codes
from node.report.record import Report

CONTAINS = RelationshipTypeValues.CONTAINS
HAS_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES
HAS_CONCEPT_MOD = RelationshipTypeValues.HAS_CONCEPT_MOD
HAS_ACQ_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
HAS_OBS_CONTEXT = RelationshipTypeValues.HAS_OBS_CONTEXT
INFERRED_FROM = RelationshipTypeValues.INFERRED_FROM


def container(
    name: Code, children: list[ContentItem], *, template: str | None = None
) -> ContainerContentItem:
    """Returns a CONTAINER that its parent contains.

    Args:
        name: concept name.
        children: at least one.
        template: template identifier, where the container is the root of one.
    """
    item = ContainerContentItem(name=name, template_id=template, relationship_type=CONTAINS)
    item.ContentSequence = ContentSequence(children)
    return item


def text(name: Code, value: str, relationship: RelationshipTypeValues = CONTAINS) -> TextContentItem:
    """Returns a TEXT item."""
    return TextContentItem(name=name, value=value, relationship_type=relationship)


def code(name: Code, value: Code, relationship: RelationshipTypeValues = CONTAINS) -> CodeContentItem:
    """Returns a CODE item."""
    return CodeContentItem(name=name, value=value, relationship_type=relationship)


def number(
    name: Code,
    value: float,
    unit: Code,
    relationship: RelationshipTypeValues = CONTAINS,
    children: list[ContentItem] | None = None,
) -> NumContentItem:
    """Returns a NUM item; the unrounded value stands in Floating Point Value (0040,A161).

    Source: PS3.3 C.18.1 (Numeric Measurement Macro).
    """
    item = NumContentItem(name=name, value=float(value), unit=unit, relationship_type=relationship)
    if children:
        item.ContentSequence = ContentSequence(children)
    return item


def interval(value: float, low: float, high: float, unit: Code) -> list[ContentItem]:
    """Returns how far the 95 % interval reaches above and below ``value``.

    Args:
        value: the number, in ``unit``.
        low: lower bound, in ``unit``.
        high: upper bound, in ``unit``.
        unit: unit of all three.

    Source: TID 310, rows "+, range of upper measurement uncertainty" and "-, range of lower" (PS3.16): the ranges are
    distances from the value.
    """
    return [
        number(codes.UPPER_UNCERTAINTY, high - value, unit, HAS_PROPERTIES),
        number(codes.LOWER_UNCERTAINTY, value - low, unit, HAS_PROPERTIES),
    ]


def risk_algorithm(report: Report, model: str) -> AlgorithmIdentification:
    """Returns TID 4019 of the model that gave a risk.

    Args:
        report: its models; the one named ``model`` counts, else all together.
        model: ``MMF`` or ``Ensemble-DL``.
    """
    named = [entry for entry in report.models if entry.name.lower() == model.lower()] or list(report.models)
    versions = ", ".join(f"{entry.name} {entry.version}" for entry in named) or "not stated"
    return AlgorithmIdentification(
        name=model,
        version=versions,
        parameters=[f"sha256={entry.sha256}" for entry in named],
        manufacturer=codes.MANUFACTURER,
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )
