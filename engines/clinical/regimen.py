"""The agents of the combined treatment, as words: what was given, never an input of a model by default."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from engines.errors import InvalidInput


class CheckpointInhibitor(StrEnum):
    """Anti-PD-(L)1 agents. Source: supplementary Table 8."""

    ATEZOLIZUMAB = "atezolizumab"
    CAMRELIZUMAB = "camrelizumab"
    PEMBROLIZUMAB = "pembrolizumab"
    SINTILIMAB = "sintilimab"
    TISLELIZUMAB = "tislelizumab"
    OTHER = "other-ici"


class TargetedAgent(StrEnum):
    """Molecular targeted agents. Source: supplementary Table 8."""

    APATINIB = "apatinib"
    BEVACIZUMAB = "bevacizumab"
    DONAFENIB = "donafenib"
    LENVATINIB = "lenvatinib"
    SORAFENIB = "sorafenib"
    OTHER = "other-targeted"


_TRADE_NAMES = {
    "tecentriq": "atezolizumab",
    "airuika": "camrelizumab",
    "keytruda": "pembrolizumab",
    "tyvyt": "sintilimab",
    "baize'an": "tislelizumab",
    "aitan": "apatinib",
    "avastin": "bevacizumab",
    "zepsun": "donafenib",
    "lenvanix": "lenvatinib",
}
"""Source: supplementary Table 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What supplementary Table 8 says of an agent: its targets and how it was given."""

    targets: str
    administration: str


AGENT_FACTS: Mapping[CheckpointInhibitor | TargetedAgent, AgentFacts] = {
    CheckpointInhibitor.ATEZOLIZUMAB: AgentFacts(
        targets="PD-L1", administration="1200 mg, iv, every 3 weeks"
    ),
    CheckpointInhibitor.CAMRELIZUMAB: AgentFacts(
        targets="PD-1", administration="200 mg or 3 mg/kg, iv, every 3 weeks"
    ),
    CheckpointInhibitor.PEMBROLIZUMAB: AgentFacts(targets="PD-1", administration="200 mg, iv, every 3 weeks"),
    CheckpointInhibitor.SINTILIMAB: AgentFacts(targets="PD-1", administration="200 mg, iv, every 3 weeks"),
    CheckpointInhibitor.TISLELIZUMAB: AgentFacts(targets="PD-1", administration="200 mg, iv, every 3 weeks"),
    TargetedAgent.APATINIB: AgentFacts(targets="VEGFR2", administration="250 mg, oral, once a day"),
    TargetedAgent.BEVACIZUMAB: AgentFacts(targets="VEGFA", administration="15 mg/kg, iv, every 3 weeks"),
    TargetedAgent.DONAFENIB: AgentFacts(
        targets="VEGFR, PDGFR, Raf/MEK/ERK", administration="200 mg, oral, twice a day"
    ),
    TargetedAgent.LENVATINIB: AgentFacts(
        targets="VEGFR1-3, PDGFR, FGFR1-4, RET",
        administration="8 mg (below 60 kg) or 12 mg (60 kg and above), oral, once a day",
    ),
    TargetedAgent.SORAFENIB: AgentFacts(
        targets="VEGFR, PDGFR, RAF, KIT", administration="400 mg, oral, twice a day"
    ),
}
"""Source: supplementary Table 8. Agents it does not list have no entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimen:
    """One checkpoint inhibitor and the targeted agents given with it, in alphabetical order."""

    inhibitor: CheckpointInhibitor
    targeted: tuple[TargetedAgent, ...]

    def text(self) -> str:
        """The regimen as one word of the clinical table, for instance ``camrelizumab+apatinib``."""
        return "+".join((self.inhibitor.value, *(agent.value for agent in self.targeted)))


def parse_regimen(text: str) -> Regimen:
    """Returns the regimen of a cell such as ``camrelizumab + apatinib``.

    Args:
        text: agents joined by '+', in any order and case; the trade names of Table 8 are understood; ``other-ici`` and
            ``other-targeted`` stand for agents that the table does not list.

    Raises:
        InvalidInput: an unknown agent, none or several checkpoint inhibitors, no targeted agent, an agent named twice.
    """
    words = [_TRADE_NAMES.get(word, word) for word in (part.strip().lower() for part in text.split("+"))]
    inhibitors = [word for word in words if word in set(CheckpointInhibitor)]
    targeted = sorted(word for word in words if word in set(TargetedAgent))
    unknown = [word for word in words if word not in inhibitors and word not in targeted]
    if unknown:
        known = ", ".join((*CheckpointInhibitor, *TargetedAgent))
        raise InvalidInput(f"regimen: '{unknown[0]}' is not one of {known}")
    if len(set(words)) != len(words):
        raise InvalidInput(f"regimen: '{text.strip()}' names an agent twice")
    if len(inhibitors) != 1 or not targeted:
        raise InvalidInput(
            f"regimen: '{text.strip()}' has {len(inhibitors)} checkpoint inhibitors and {len(targeted)} targeted agents;"
            " expected one and at least one"
        )
    return Regimen(
        inhibitor=CheckpointInhibitor(inhibitors[0]), targeted=tuple(TargetedAgent(word) for word in targeted)
    )
