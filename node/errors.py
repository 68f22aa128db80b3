"""The error tree of the node; it continues the engines' tree. Each docstring says what the operator does."""

from engines.errors import MmfError


class SettingsRefused(MmfError):
    """The settings hold faults. Correct every line of ``faults``; they are all listed at once."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class InstanceRefused(MmfError):
    """One DICOM instance cannot be accepted or read. The message names its SOP Instance UID and the fault."""


class SeriesRefused(MmfError):
    """A series or part of one cannot become a volume (gap, duplicate positions, tilt, mixed orientation). See the numbers in the message; ask the PACS for the missing slices or choose another reconstruction."""


class InboxFull(MmfError):
    """The disk is above its watermark. Free space; nothing that was accepted is deleted."""


class JobMoveRefused(MmfError):
    """A job cannot go from its state to the one asked for. ``mmf-node jobs show`` tells its state."""


class WorkFailed(MmfError):
    """A fault of this program met a study. The log holds its trace: report it; `mmf-node jobs retry` tries again."""


class ObjectInvalid(MmfError):
    """A result object did not pass validation and is not sent. Report the message as a fault of this product."""


class DeliveryPostponed(MmfError):
    """The destination could not take the objects now (unreachable, out of resources). The node tries again by itself."""


class DeliveryRefused(MmfError):
    """The destination will never take the objects as they are. Correct its configuration, then ``mmf-node jobs retry``."""


class SecretRefused(MmfError):
    """The site's secret for pseudonyms cannot be trusted. Restore it from the backup and its mode 0600; a new secret would give every patient a second pseudonym."""


class PatientAmbiguous(MmfError):
    """A patient identifier without issuer fits several patients of the site's register. State the issuer."""


class ExportRefused(MmfError):
    """The cohort cannot take what is exported. Do what the message says, or choose another cohort folder."""


class OutcomesRefused(MmfError):
    """The outcomes cannot be joined as they are. Correct the rows that the message names; nothing was written."""
