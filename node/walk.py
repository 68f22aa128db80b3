"""One study on its way through the pipeline: what was asked, with which tools, and what is known so far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import SimpleITK as sitk

from engines.case import Case, hash_file
from engines.clinical.table import ClinicalRow
from engines.models.model import Model, Scores
from engines.phase import Phase
from engines.radiomics.settings import RadiomicsSettings
from engines.registration import AlignmentQuality
from engines.segmentation.segmenter import Segmenter
from engines.volume import Volume
from node.conclusion import SegmentedLiver
from node.phases.plan import PhasePlan
from node.phases.rules import PhaseRules
from node.report.record import NotAssessable
from node.report.sources import SaliencyMap
from node.steps import Steps
from node.study import CT_STORAGE, Acquisition, Instance, Study
from node.succession import EarlierResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be assessed, and who asked.

    Attributes:
        study: every instance received.
        row: the patient's clinical row, the reason why it is not believed, or None when there is none.
        requested: an operator or a site's rule asked, so that no clinical row is needed.
        overrides: an operator's word on a phase: acquisition label (``SERIES_UID[:PART]``) by phase.
        earlier: the study's latest result, which a new one names as its predecessor; None when there is none.
    """

    study: Study
    row: ClinicalRow | NotAssessable | None
    requested: bool = False
    overrides: Mapping[Phase, str] = field(default_factory=dict)
    earlier: EarlierResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What an assessment works with; made once by the composition root.

    Attributes:
        model_folder: a model folder; it is checked by hash before it is read.
        radiomics: None leaves the features out.
        activation_maps: whether the report shows where the networks looked.
        report_unrequested: whether a study that nobody asked for gets objects that say so.
        now: aware UTC; asked once, when the report is concluded.
    """

    phase_rules: PhaseRules
    segmenter: Segmenter
    radiomics: RadiomicsSettings | None
    activation_maps: bool
    model_folder: Path
    allow_demonstration: bool
    maximum_scan_age_weeks: float
    report_unrequested: bool
    now: Callable[[], datetime]


@dataclass(slots=True, kw_only=True)
class Walk:
    """One study on its way: what each stage has found for the next.

    Attributes:
        transforms: by phase, portal venous points to points of the phase.
        inverses: the other way, for masks on the phase's own grid; made of the transforms, not kept on the disk.
        liver: bool, on the portal venous grid.
        lesions: labels, on the same grid.
        stands: the earlier result was made of the same passes: nothing new is computed.
    """

    request: Request
    tools: Tools
    case: Case
    steps: Steps
    flags: list[str] = field(default_factory=list)
    row: ClinicalRow | None = None
    plan: PhasePlan | None = None
    stands: bool = False
    volumes: dict[Phase, Volume] = field(default_factory=dict)
    transforms: dict[Phase, sitk.Transform] = field(default_factory=dict)
    inverses: dict[Phase, sitk.Transform] = field(default_factory=dict)
    registration: dict[Phase, AlignmentQuality] = field(default_factory=dict)
    liver: Volume | None = None
    lesions: Volume | None = None
    segmented: SegmentedLiver | None = None
    model: Model | None = None
    scores: Scores | None = None
    saliency: tuple[SaliencyMap, ...] = ()

    @property
    def received(self) -> tuple[Instance, ...]:
        """Every instance but the results of ours that came back."""
        return tuple(instance for instance in self.request.study.instances if not instance.ours)

    @property
    def images(self) -> tuple[Instance, ...]:
        """The CT instances among them."""
        return tuple(instance for instance in self.received if instance.sop_class_uid in CT_STORAGE)


def digest_acquisition(acquisition: Acquisition) -> list[str]:
    """Returns what a step that reads an acquisition depends on: images in their order, and the hashes of their files."""
    paths = dict.fromkeys(instance.path for instance in acquisition.instances)
    places = [f"{instance.sop_instance_uid} {instance.frame_number}" for instance in acquisition.instances]
    return [acquisition.label, *places, *(hash_file(path) for path in paths)]
