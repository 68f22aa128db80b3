"""The error tree of the engines. Each class is named by what is wrong, and its docstring says what the operator does."""


class MmfError(Exception):
    """Base of every error this product raises on purpose. The message says what was got and what was expected."""


class InvalidInput(MmfError):
    """A value given by a person or a file does not fit. Correct the value that the message names."""


class GeometryMismatch(MmfError):
    """Two arrays do not lie on the same grid. Resample one of them, or give the mask made on this image."""


class SegmentationRefused(MmfError):
    """No plausible liver was found in the volume. Check the phase, the coverage and the patient; no risk is issued."""


class NoLiverFound(SegmentationRefused):
    """The volume shows no liver at all. Check that the series covers the upper abdomen; no risk is issued."""


class RegistrationRefused(MmfError):
    """Two phases could not be aligned. Check that they belong to one examination; no risk is issued."""


class FeatureRefused(MmfError):
    """Radiomic features cannot be computed on this region. Check the label, its size and its geometry."""


class ModelRefused(MmfError):
    """A model folder is damaged, incomplete or of another version. Reinstall it or choose another version."""


class CaseRefused(MmfError):
    """A case folder is damaged, incomplete or of another schema version. Restore it or assess the study again."""


class Busy(MmfError):
    """Another process does this work already. Wait until it has ended."""


class SurvivalRefused(MmfError):
    """A survival statistic cannot be computed from these outcomes. Bring more events, or leave the statistic out."""


class VariableSeparates(SurvivalRefused):
    """A variable orders the events without exception, so its hazard ratio is infinite. Fit with a ridge, or leave it out.

    Attributes:
        variables: names of the variables whose coefficients grow without bound.
    """

    def __init__(self, message: str, variables: tuple[str, ...]) -> None:
        super().__init__(message)
        self.variables = variables
