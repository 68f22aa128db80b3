"""What the result objects are drawn from besides the report: instances, volumes, masks, curves, saliency."""

from dataclasses import dataclass, field

import SimpleITK as sitk

from engines.errors import InvalidInput
from engines.phase import REFERENCE_PHASE, Phase
from engines.plots import SurvivalCurve
from engines.volume import Volume
from node.study import Acquisition, Instance

DocumentPlace = tuple[str, str]
"""SOP Instance UID and Series Instance UID of a document of the same study."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UsedAcquisition:
    """One acquisition that took part in the assessment.

    Attributes:
        volume: native Hounsfield units, int16 (z, y, x), as ``read_volume`` gave it.
        to_reference: takes points of this acquisition (mm, LPS) to points of the portal-venous one, so that masks
            drawn there can be resampled here; None for the portal-venous acquisition itself.
    """

    phase: Phase
    acquisition: Acquisition
    volume: Volume
    to_reference: sitk.Transform | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CohortCurve:
    """Kaplan-Meier curve of one risk group of the training cohort: ``endpoint`` OS or PFS, ``group`` low or high."""

    endpoint: str
    group: str
    curve: SurvivalCurve


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientCurve:
    """Predicted survival of this patient over time, with the interval of the model's average."""

    endpoint: str
    curve: SurvivalCurve


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SaliencyMap:
    """Where one network looked for one endpoint.

    Attributes:
        volume: float32, 0 to 1, on any grid in the frame of the portal-venous acquisition; all 0 where nothing speaks for
            a higher risk.
    """

    endpoint: str
    network: str
    volume: Volume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportSources:
    """Everything the writer of the objects may need. A study without CT has only ``instance``.

    Attributes:
        instance: any stored instance of the study (a CT one where there is one): patient and study come from it.
        used: the acquisitions that took part, at most one a phase.
        liver: bool on the portal-venous grid; None when nothing was segmented.
        lesions: labels 1..n on the same grid, 0 outside; None when nothing was segmented.
        cohort_curves: training cohort's curves, for the plot beside this patient's.
        patient_curves: this patient's curves; where absent, the horizons of the report are drawn alone.
        predecessors: the Structured Reports that this result replaces.
        standing: the Structured Report of an earlier result that stays valid beside this one; None when there is none.

    Raises:
        InvalidInput: two acquisitions of one phase, or masks without the portal-venous acquisition.
    """

    instance: Instance
    used: tuple[UsedAcquisition, ...] = ()
    liver: Volume | None = None
    lesions: Volume | None = None
    cohort_curves: tuple[CohortCurve, ...] = ()
    patient_curves: tuple[PatientCurve, ...] = ()
    saliency: tuple[SaliencyMap, ...] = field(default=())
    predecessors: tuple[DocumentPlace, ...] = ()
    standing: DocumentPlace | None = None

    def __post_init__(self) -> None:
        phases = [used.phase for used in self.used]
        study = self.instance.study_instance_uid
        if len(set(phases)) != len(phases):
            raise InvalidInput(f"study {study}: several acquisitions of one phase: {', '.join(phases)}")
        if self.liver is not None and REFERENCE_PHASE not in phases:
            raise InvalidInput(
                f"study {study}: masks lie on the {REFERENCE_PHASE} grid, but only {phases} are given"
            )

    def acquisition(self, phase: Phase) -> UsedAcquisition | None:
        """Returns the acquisition of ``phase``, or None."""
        return next((used for used in self.used if used.phase == phase), None)
