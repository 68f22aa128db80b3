"""The contrast phases as words: those of DICOM, their letters in the paper, and the order of the network's channels."""

from enum import StrEnum


class Phase(StrEnum):
    """Contrast phase of an acquisition.

    Source: the words are defined terms of Contrast/Bolus Agent Phase, (0018,9344), PS3.3 C.7.6.16.2.12.
    """

    PRE_CONTRAST = "PRE_CONTRAST"
    ARTERIAL = "ARTERIAL"
    PORTAL_VENOUS = "PORTAL_VENOUS"
    DELAYED = "DELAYED"

    @property
    def letter(self) -> str:
        """The paper's letter for the phase: N (native), A, V, D."""
        return {"PRE_CONTRAST": "N", "ARTERIAL": "A", "PORTAL_VENOUS": "V", "DELAYED": "D"}[self.value]


ASSESSED_PHASES = (Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED)
"""The three phases of the method and the order of the network's input channels (supplement, Table 3: A+V+D)."""

REFERENCE_PHASE = Phase.PORTAL_VENOUS
"""The phase whose grid carries the masks and to which the others are aligned (method, section 2)."""


def parse_phase(word: str) -> Phase:
    """Returns the phase a person typed, in any case, with '-' or '_' or blank between words.

    Args:
        word: e.g. ``arterial``, ``Portal-Venous``.

    Raises:
        ValueError: the word is none of the four phases.
    """
    key = word.strip().upper().replace("-", "_").replace(" ", "_")
    try:
        return Phase(key)
    except ValueError:
        known = ", ".join(phase.value for phase in Phase)
        raise ValueError(f"'{word}' is not a contrast phase; expected one of {known}") from None
