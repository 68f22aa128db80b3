"""Draws synthetic studies, headers and vessel HU only, with the faults of real archives and their true phases.

The distributions are those of protocols in the literature and deliberately not the model's own: gaps are uniform, texts come
from hospitals' habits in seven languages, HU of native, arterial and portal venous passes are whole rows drawn from the public
table of real scans where it is there (with its wrong labels), and faults hit independently.
"""

import csv
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from engines.phase import Phase
from node.study import CT_IMAGE_STORAGE, Acquisition, Instance

N, A, V, D = Phase.PRE_CONTRAST, Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED

HABITS = (
    {N: "Abd wo contrast 3.0", A: "Late arterial 1.5 B30f", V: "Portal venous 1.5", D: "Delayed 3 min"},
    {N: "PRE LIVER", A: "LIVER ART", V: "LIVER PV PHASE", D: "LIVER DELAY"},
    {N: "上腹部平扫", A: "上腹部动脉期 1.25", V: "上腹部门脉期 1.25", D: "上腹部延迟期 1.25"},
    {N: "Abdomen nativ 5.0 I30f", A: "Abd arteriell 3.0", V: "Abd portalvenös 3.0", D: "Abd spätvenös 3.0"},
    {N: "ABDO SANS INJ", A: "TEMPS ARTERIEL", V: "TEMPS PORTAL", D: "TEMPS TARDIF"},
    {N: "AXIAL SC", A: "VOLUME ARTERIAL", V: "VOLUME PORTAL", D: "EQUILIBRIO"},
    {N: "Jama brzuszna bez kontrastu", A: "faza tętnicza", V: "faza wrotna", D: "faza późna"},
    {N: "Non-contrast", A: "35 sec", V: "70 sec", D: "180 SEC DELAY"},
    {N: "C-", A: "C+ art", V: "C+ portal", D: "C+ 5 min"},
)
GENERIC = (
    "",
    "AXIAL",
    "Abdomen 3.0 B40f",
    "LIVER 3 PHASE (AP)",
    "2.5 STANDARD",
    "150cc OMNIPAQUE",
    "C/A/P",
    "CE 1.5",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnStudy:
    """One synthetic study.

    Attributes:
        truth: the phase of every acquisition by label; None = no phase (extra images).
        times_intact: every pass has its true acquisition time.
        texts_intact: every pass of A, V, D has a text that names its phase rightly.
    """

    acquisitions: tuple[Acquisition, ...]
    truth: dict[str, Phase | None]
    hounsfield: dict[str, dict[str, float]]
    times_intact: bool
    texts_intact: bool
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Series:
    phase: Phase | None
    start: datetime | None
    number: int
    acquisition_number: int | None
    text: str
    bolus: datetime | None = None
    kernel: tuple[str, ...] = ("B30f",)
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    thickness: float = 3.0
    slices: int = 60
    vessels: dict[str, float] = field(default_factory=dict)


def read_vessels(path: Path | None) -> dict[Phase, np.ndarray]:
    """(aorta, portal vein) medians of real scans by phase, or a parametric stand-in where the table is absent."""
    rng = np.random.default_rng(1)
    drawn = {
        N: rng.normal([40, 38], [8, 8], (500, 2)),
        A: rng.normal([290, 100], [70, 40], (500, 2)),
        V: rng.normal([135, 140], [22, 22], (500, 2)),
    }
    if path is None or not path.is_file():
        return drawn
    words = {"Pre_Contrast": N, "Arterial": A, "Portal_Venous": V}
    medians: dict[tuple[str, str], dict[str, float]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["original_firstorder_Median"]:
                found = medians.setdefault((row["scan"], row["ph"]), {})
                found[row["Label"]] = float(row["original_firstorder_Median"])
    for word, phase in words.items():
        whole = [found for (_, name), found in medians.items() if name == word and len(found) == 2]
        drawn[phase] = np.array([[found["aorta"], found["portal_vein_and_splenic_vein"]] for found in whole])
    return drawn


def draw_study(rng: np.random.Generator, vessels: dict[Phase, np.ndarray]) -> DrawnStudy:
    """One study: usually four phases, sometimes fewer, with faults and extra images."""
    faults: list[str] = []
    phases = [N, A, V, D]
    if rng.random() < 0.2:
        phases.remove(N)
    if rng.random() < 0.12:
        phases.remove([A, V, D][rng.integers(3)])
        faults.append("a phase is missing")
    passes = _draw_passes(rng, phases)
    _draw_vessels(rng, passes, vessels, faults)
    _spoil_times(rng, passes, faults)
    texts = _spoil_texts(rng, passes, faults)
    _spoil_numbers(rng, passes, faults)
    series = _add_extras(rng, passes)
    rng.shuffle(series)
    truth: dict[str, Phase | None] = {}
    hounsfield: dict[str, dict[str, float]] = {}
    acquisitions = []
    for index, item in enumerate(series):
        acquisition = _make(item, index)
        acquisitions.append(acquisition)
        truth[acquisition.label] = item.phase
        if item.vessels:
            hounsfield[acquisition.label] = item.vessels
    return DrawnStudy(
        acquisitions=tuple(acquisitions),
        truth=truth,
        hounsfield=hounsfield,
        times_intact=not any("time" in fault for fault in faults),
        texts_intact=texts,
        faults=tuple(faults),
    )


def _draw_passes(rng: np.random.Generator, phases: list[Phase]) -> list[_Series]:
    """True passes with true times and right numbers; bolus start where the injector is coupled."""
    injected = datetime(2024, 3, 5, 8, 0) + timedelta(seconds=float(rng.uniform(0, 15.5 * 3600)))
    after = {N: -rng.uniform(45, 900), A: rng.uniform(26, 45)}
    after[V] = after[A] + rng.uniform(25, 50)
    after[D] = after[V] + rng.uniform(60, 240)
    coupled = rng.random() < 0.5
    return [
        _Series(
            phase=phase,
            start=injected + timedelta(seconds=float(after[phase])),
            number=index + 2,
            acquisition_number=index + 1,
            text="",
            bolus=injected if coupled and phase != N else None,
        )
        for index, phase in enumerate(phases)
    ]


def _draw_vessels(
    rng: np.random.Generator, passes: list[_Series], vessels: dict[Phase, np.ndarray], faults: list[str]
) -> None:
    """Vessel HU: a real scan's row for N, A, V; D from washout of the V row; sometimes not measured."""
    if rng.random() < 0.15:
        faults.append("no vessels found")
        return
    for item in passes:
        if item.phase == D:
            portal = rng.normal(112, 14)
            pair = (portal + rng.normal(0, 6), portal)
        else:
            rows = vessels[item.phase]
            pair = tuple(rows[rng.integers(len(rows))])
        item.vessels = {"aorta": float(pair[0]), "portal_vein": float(pair[1])}


def _spoil_times(rng: np.random.Generator, passes: list[_Series], faults: list[str]) -> None:
    """Missing, all alike, over midnight, or a planned bolus time."""
    draw = rng.random()
    if draw < 0.2:
        faults.append("times missing")
        for item in passes:
            item.start = item.bolus = None
    elif draw < 0.23:
        faults.append("times all alike")
        for item in passes:
            item.start, item.bolus = passes[0].start, None
    elif draw < 0.26:
        faults.append("one time missing")
        passes[rng.integers(len(passes))].start = None
    elif draw < 0.29:
        faults.append("midnight")
        shift = datetime(2024, 3, 6) - (passes[-1].start or datetime(2024, 3, 5))
        shift += timedelta(seconds=float(rng.uniform(5, 60)))
        stays = rng.random() < 0.5
        for item in passes:
            for name in ("start", "bolus"):
                moment = getattr(item, name)
                if moment is None:
                    continue
                moved = moment + shift
                setattr(item, name, moved.replace(day=5) if stays and moved.day == 6 else moved)
    elif draw < 0.33:
        faults.append("planned bolus start")
        for item in passes:
            item.bolus = datetime(2024, 3, 5, 7, 0) if rng.random() < 0.5 else item.start


def _spoil_texts(rng: np.random.Generator, passes: list[_Series], faults: list[str]) -> bool:
    """Right in one language, generic, partly missing, two swapped, or one wrong; returns whether all are right."""
    habit = HABITS[rng.integers(len(HABITS))]
    for item in passes:
        item.text = habit[item.phase]
    draw = rng.random()
    if draw < 0.25:
        faults.append("texts say nothing")
        word = GENERIC[rng.integers(len(GENERIC))]
        for item in passes:
            item.text = word
    elif draw < 0.33:
        faults.append("one text says nothing")
        passes[rng.integers(len(passes))].text = ""
    elif draw < 0.36 and len(passes) > 1:
        faults.append("two texts swapped")
        one, two = rng.choice(len(passes), 2, replace=False)
        passes[one].text, passes[two].text = passes[two].text, passes[one].text
    elif draw < 0.40:
        faults.append("one text wrong")
        item = passes[rng.integers(len(passes))]
        item.text = habit[[phase for phase in Phase if phase != item.phase][rng.integers(3)]]
    if "Chinese" not in faults and habit[N] == "上腹部平扫" and rng.random() < 0.3:
        for item in passes:
            item.text = item.text.encode("gbk").decode("latin-1")
    return draw >= 0.40


def _spoil_numbers(rng: np.random.Generator, passes: list[_Series], faults: list[str]) -> None:
    """Acquisition numbers swapped, all alike or absent; series numbers shuffled."""
    draw = rng.random()
    if draw < 0.06 and len(passes) > 1:
        faults.append("numbers swapped")
        one, two = rng.choice(len(passes), 2, replace=False)
        first, second = passes[one], passes[two]
        first.acquisition_number, second.acquisition_number = (
            second.acquisition_number,
            first.acquisition_number,
        )
    elif draw < 0.16:
        faults.append("numbers alike or absent")
        same = None if rng.random() < 0.5 else 1
        for item in passes:
            item.acquisition_number = same
    if rng.random() < 0.15:
        faults.append("series shuffled")
        numbers = rng.permutation([item.number for item in passes])
        for item, number in zip(passes, numbers, strict=True):
            item.number = int(number)


def _add_extras(rng: np.random.Generator, passes: list[_Series]) -> list[_Series]:
    """Reconstructions that are used or not (thin, bone, MIP), and spectral images that look like another phase."""
    series = list(passes)
    for item in passes:
        if rng.random() < 0.3:
            thin = replace(item, number=item.number + 100, thickness=1.0, vessels=dict(item.vessels))
            series.append(thin)
        if rng.random() < 0.15:
            bone = replace(
                item, number=item.number + 200, kernel=("B70f",), phase=None, text="BONE " + item.text
            )
            series.append(bone)
        if rng.random() < 0.15:
            text = f"COR MIP {item.text}"
            series.append(
                replace(
                    item,
                    number=item.number + 300,
                    image_type=("DERIVED", "SECONDARY", "MIP"),
                    phase=None,
                    text=text,
                )
            )
        if item.phase == V and rng.random() < 0.1:
            series.append(
                replace(
                    item,
                    number=item.number + 400,
                    image_type=("DERIVED", "PRIMARY", "VNC"),
                    phase=None,
                    text="VNC",
                )
            )
    return series


def _make(item: _Series, index: int) -> Acquisition:
    """An acquisition of header records, two of which stand for its range."""
    uid = f"2.25.{index + 1}"
    base = Instance(
        path=Path(),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid=f"{uid}.1",
        study_instance_uid="2.25.9",
        series_instance_uid=uid,
        modality="CT",
        image_type=item.image_type,
        series_number=item.number,
        acquisition_number=item.acquisition_number,
        series_description=item.text,
        contrast_bolus_agent="OMNIPAQUE",
        convolution_kernel=item.kernel,
        frame_of_reference_uid="2.25.8",
        orientation=(1, 0, 0, 0, 1, 0),
        position_mm=(0.0, 0.0, 0.0),
        pixel_spacing_mm=(0.8, 0.8),
        slice_thickness_mm=item.thickness,
        rows=512,
        columns=512,
        acquired_at=item.start,
        bolus_start_at=item.bolus,
        study_at=datetime(2024, 3, 5, 7, 0),
    )
    step = 240.0 / item.slices
    positions = [(0.0, 0.0, step * n) for n in range(item.slices)]
    return Acquisition(
        series_instance_uid=uid,
        part=0,
        instances=tuple(replace(base, position_mm=position) for position in positions),
    )
