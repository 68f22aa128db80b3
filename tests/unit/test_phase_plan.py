"""The plan: phases with reasons, one acquisition a phase, and why the others are not used."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from engines.errors import InvalidInput
from engines.phase import Phase
from node.phases.acquisitions import split_acquisitions
from node.phases.plan import list_candidates, plan_phases
from node.phases.rules import load_rules
from node.study import CT_IMAGE_STORAGE, Acquisition, Instance

RULES = load_rules()
N, A, V, D = Phase.PRE_CONTRAST, Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED
T0 = datetime(2024, 5, 17, 9, 0, 30)
AFTER = {N: -120, A: 35, V: 70, D: 180}
VESSELS = {N: (38, 33), A: (280, 95), V: (130, 138), D: (104, 106)}


def series(
    uid: str, phase: Phase | None = None, *, slices: int = 60, text: str = "", **fields
) -> Acquisition:
    """A stack of header records; with ``phase``, scanned at its usual time."""
    base = Instance(
        path=Path("x"),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid="",
        study_instance_uid="STUDY",
        series_instance_uid=uid,
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        series_number=int(uid[1:]) if uid[1:].isdigit() else 1,
        series_description=text,
        convolution_kernel=("B30f",),
        frame_of_reference_uid="FRAME",
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(0.8, 0.8),
        slice_thickness_mm=4.0,
        rows=512,
        columns=512,
        acquired_at=None if phase is None else T0 + timedelta(seconds=AFTER[phase]),
    )
    base = replace(base, **fields)
    members = [
        replace(base, sop_instance_uid=f"{uid}.{n}", instance_number=n, position_mm=(0.0, 0.0, 4.0 * n))
        for n in range(slices)
    ]
    return split_acquisitions(members)[0]


def study() -> list[Acquisition]:
    return [series("S2", N), series("S3", A), series("S4", V), series("S5", D)]


def vessels(**phases: Phase) -> dict[str, dict[str, float]]:
    return {
        uid: dict(zip(("aorta", "portal_vein"), VESSELS[phase], strict=True)) for uid, phase in phases.items()
    }


ALL = vessels(S2=N, S3=A, S4=V, S5=D)


def chosen(plan) -> dict[Phase, str]:
    return {phase: acquisition.label for phase, acquisition in plan.chosen.items()}


def finding(plan, label: str):
    return next(item for item in plan.findings if item.acquisition.label == label)


def test_four_passes_with_times_and_pixels_are_named_and_used():
    plan = plan_phases(study(), ALL, RULES)
    assert chosen(plan) == {N: "S2", A: "S3", V: "S4", D: "S5"}
    assert plan.missing == ()
    assert all(item.used and item.excluded is None and item.probability > 0.97 for item in plan.findings)
    assert any("35 s after the one before" in reason for reason in finding(plan, "S4").reasons)


def test_order_of_the_input_does_not_matter():
    assert chosen(plan_phases(study()[::-1], ALL, RULES)) == chosen(plan_phases(study(), ALL, RULES))


def test_single_portal_venous_series_is_named_from_pixels():
    plan = plan_phases([series("S2", V)], vessels(S2=V), RULES)
    assert finding(plan, "S2").phase == V
    assert {A, D} <= set(plan.missing)


def test_pixels_alone_never_decide_delayed():
    for pair in ((104, 106), (90, 92), (110, 100)):
        plan = plan_phases([series("S2", V)], {"S2": {"aorta": pair[0], "portal_vein": pair[1]}}, RULES)
        assert finding(plan, "S2").phase != D


def test_text_alone_does_not_override_pixels_and_order():
    acquisitions = study()
    acquisitions[0] = series("S2", N, text="ARTERIAL")
    plan = plan_phases(acquisitions, ALL, RULES)
    assert finding(plan, "S2").phase in (N, None)
    assert chosen(plan)[A] == "S3"


def test_times_against_a_plain_text_decide_nothing_without_pixels():
    timed = [
        series("S2", N, text="ARTERIAL", bolus_start_at=T0),
        series("S3", A, text="arterial", bolus_start_at=T0),
        series("S4", V, text="portal", bolus_start_at=T0),
    ]
    item = finding(plan_phases(timed, {}, RULES), "S2")
    assert item.phase is None
    assert "text contradicts, and no pixels decide" in item.reasons[-1]
    assert finding(plan_phases(timed, vessels(S2=N, S3=A, S4=V), RULES), "S2").phase == N


def test_contrast_agent_on_the_native_series_does_not_make_it_enhanced():
    acquisitions = [
        replace(a, instances=tuple(replace(i, contrast_bolus_agent="OMNIPAQUE") for i in a.instances))
        for a in study()
    ]
    assert chosen(plan_phases(acquisitions, ALL, RULES))[N] == "S2"


def test_reconstructions_of_one_pass_share_its_phase_and_the_best_one_is_used():
    thick = series("S14", V, slice_thickness_mm=8.0)
    thin = series("S15", V, slice_thickness_mm=2.5)
    plan = plan_phases([*study(), thick, thin], ALL, RULES)
    assert chosen(plan)[V] == "S15"
    for label in ("S4", "S14"):
        item = finding(plan, label)
        assert item.phase == V
        assert not item.used
        assert item.excluded.startswith(
            "not used, because another reconstruction of this pass is preferred: S15"
        )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "VNC")}, "virtual non-contrast"),
        ({"image_type": ("DERIVED", "PRIMARY", "MONOENERGETIC")}, "spectral"),
        ({"text": "Monoenergetic 55 keV"}, "spectral"),
        ({"text": "Iodine map"}, "spectral"),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, "reformat"),
        ({"text": "COR MIP ARTERIAL"}, "reformat"),
        ({"text": "LUNG ARTERIAL"}, "lung"),
        ({"text": "VOLUME PULMÃO"}, "lung"),
        ({"convolution_kernel": ("B70f",)}, "sharp convolution kernel B70f"),
        ({"convolution_kernel": ("BONEPLUS",)}, "sharp convolution kernel"),
        ({"convolution_kernel": ("Br64d", "3")}, "sharp convolution kernel Br64d"),
        ({"text": "liver mask"}, "mask or segmentation"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localizer"),
        ({"text": "Pelvis  5.0  B40f"}, "another body part"),
        ({"body_part_examined": "HEAD"}, "another body part"),
        ({"burned_in_annotation": "YES"}, "BurnedInAnnotation"),
        ({"ours": True}, "a result of this product"),
        ({"modality": "MR"}, "modality MR"),
        ({"orientation": (1, 0, 0, 0, 0, -1)}, "not axial"),
    ],
)
def test_what_is_not_a_phase_is_excluded_with_the_reason(fields, reason):
    plan = plan_phases([*study(), series("S9", N, **fields)], ALL, RULES)
    item = finding(plan, "S9")
    assert item.phase is None
    assert item.probability is None
    assert reason in item.excluded
    assert len(plan.chosen) == 4


def test_proper_axial_reconstruction_marked_derived_is_used():
    acquisitions = study()
    acquisitions[2] = series("S4", V, image_type=("DERIVED", "PRIMARY", "AXIAL"))
    assert chosen(plan_phases(acquisitions, ALL, RULES))[V] == "S4"


def test_short_pass_is_named_but_not_used():
    acquisitions = study()
    acquisitions[2] = series("S4", V, slices=12)
    plan = plan_phases(acquisitions, vessels(S2=N, S3=A, S5=D), RULES)
    item = finding(plan, "S4")
    assert item.phase == V
    assert item.excluded == "12 slices, fewer than 20; covers 48 mm, less than 150"
    assert plan.missing == (V,)


def test_other_frame_of_reference_is_not_used():
    acquisitions = study()
    acquisitions[3] = series("S5", D, frame_of_reference_uid="MOVED")
    plan = plan_phases(acquisitions, ALL, RULES)
    assert plan.missing == (D,)
    assert "Frame of Reference differs" in finding(plan, "S5").excluded


def test_series_with_gaps_keeps_its_place_in_the_order_and_is_not_used():
    broken = series("S4", V)
    holes = tuple(i for i in broken.instances if i.instance_number != 30)
    (broken,) = split_acquisitions(holes)
    plan = plan_phases([study()[0], study()[1], broken, study()[3]], vessels(S2=N, S3=A, S5=D), RULES)
    assert "missing slices: 1" in finding(plan, "S4").excluded
    assert plan.missing == (V,)
    assert chosen(plan)[D] == "S5"


def test_what_is_unsure_is_not_determined_and_says_so():
    plan = plan_phases([series("S2"), series("S3")], {}, RULES)
    for item in plan.findings:
        assert item.phase is None
        assert item.excluded is None
        assert "not determined" in item.reasons[-1]
    assert plan.missing == (A, V, D)


def test_operators_word_wins_and_is_recorded():
    plan = plan_phases(study(), ALL, RULES, {A: "S4", V: "S3"})
    assert chosen(plan)[A] == "S4"
    assert chosen(plan)[V] == "S3"
    item = finding(plan, "S4")
    assert (item.phase, item.probability, item.used) == (A, 1.0, True)
    assert item.reasons[0] == "operator"


def test_operator_may_use_what_the_words_exclude():
    plan = plan_phases([*study()[:3], series("S9", D, text="LUNG delayed")], {}, RULES, {D: "S9"})
    assert chosen(plan)[D] == "S9"


def test_operators_word_about_nothing_is_refused():
    with pytest.raises(InvalidInput, match="no such acquisition"):
        plan_phases(study(), ALL, RULES, {A: "S77"})
    with pytest.raises(InvalidInput, match="one acquisition is one phase"):
        plan_phases(study(), ALL, RULES, {A: "S3", V: "S3"})


def test_candidates_are_what_is_worth_measuring():
    acquisitions = [*study(), series("S9", V, text="LUNG"), series("S8", V, slices=5)]
    assert [a.label for a in list_candidates(acquisitions, RULES)] == ["S2", "S3", "S4", "S5"]


@pytest.mark.parametrize(
    ("word", "phase"),
    [("ARTERIAL", A), ("PORTAL_VENOUS", V), ("DELAYED", D), ("PRE_CONTRAST", N), ("POST_CONTRAST", None)],
)
def test_phase_attribute_of_multi_frame_ct_is_believed_unless_ambiguous(word, phase):
    plan = plan_phases([series("S2", contrast_bolus_agent_phase=word)], {}, RULES)
    assert finding(plan, "S2").phase == phase


def test_parts_of_one_series_are_planned_apart():
    members = []
    for number, phase in enumerate((A, V, D), start=2):
        for instance in series("S2", phase).instances:
            members.append(
                replace(
                    instance,
                    sop_instance_uid=f"{instance.sop_instance_uid}.{number}",
                    acquisition_number=number,
                )
            )
    parts = split_acquisitions(members)
    labels = vessels() | {
        f"S2:{n}": dict(zip(("aorta", "portal_vein"), VESSELS[p], strict=True))
        for n, p in ((1, A), (2, V), (3, D))
    }
    plan = plan_phases(parts, labels, RULES)
    assert chosen(plan) == {A: "S2:1", V: "S2:2", D: "S2:3"}


def test_empty_study_has_everything_missing():
    plan = plan_phases([], {}, RULES)
    assert plan.findings == ()
    assert plan.missing == (A, V, D)


def test_parts_of_one_series_with_one_copied_time_stay_passes():
    members = []
    for number in (2, 3, 4):
        for instance in series("S2", A).instances:
            members.append(
                replace(
                    instance,
                    sop_instance_uid=f"{instance.sop_instance_uid}.{number}",
                    acquisition_number=number,
                )
            )
    native = series("S1", N)
    parts = split_acquisitions([*native.instances, *members])
    measured = {"S1": N, "S2:1": A, "S2:2": V, "S2:3": D}
    hounsfield = {
        uid: dict(zip(("aorta", "portal_vein"), VESSELS[p], strict=True)) for uid, p in measured.items()
    }
    plan = plan_phases(parts, hounsfield, RULES)
    assert finding(plan, "S2:1").phase == A
    assert finding(plan, "S2:2").phase == V
    assert "acquisition time is the same for all passes" in finding(plan, "S2:1").reasons


def test_frames_in_any_order_are_named_by_their_phase_attribute():
    members = [
        replace(
            instance,
            sop_instance_uid="OBJECT",
            acquisition_number=1,
            instance_number=1,
            frame_number=first + place,
            contrast_bolus_agent_phase=word,
        )
        for word, first in (("DELAYED", 1), ("ARTERIAL", 101), ("PORTAL_VENOUS", 201))
        for place, instance in enumerate(series("S2").instances)
    ]
    plan = plan_phases(split_acquisitions(members), {}, RULES)
    assert chosen(plan) == {A: "S2:1", V: "S2:2", D: "S2:3"}


@pytest.mark.parametrize("copied", [True, False])
def test_passes_of_one_series_with_two_kernels_are_passes_with_two_reconstructions(copied):
    members = []
    for number, kernel in product((2, 3, 4), ("B30f", "B35f")):
        for instance in series("S2", A if copied else None).instances:
            uid = f"{instance.sop_instance_uid}.{number}.{kernel}"
            members.append(
                replace(
                    instance, sop_instance_uid=uid, acquisition_number=number, convolution_kernel=(kernel,)
                )
            )
    parts = split_acquisitions([*series("S1", N).instances, *members])
    assert len(parts) == 7
    truth = {2: A, 3: V, 4: D, None: N}
    hounsfield = {
        part.label: dict(
            zip(("aorta", "portal_vein"), VESSELS[truth[part.first.acquisition_number]], strict=True)
        )
        for part in parts
    }
    plan = plan_phases(parts, hounsfield, RULES)
    found = {frozenset(part.first.acquisition_number for part in members) for members in plan.passes}
    assert found == {frozenset({number}) for number in truth}
    assert all(truth[part.first.acquisition_number] == phase for phase, part in plan.chosen.items())


def pass_labels(plan) -> list[set[str]]:
    return [{acquisition.label for acquisition in members} for members in plan.passes]


def test_one_acquisition_number_for_all_series_joins_no_passes():
    numbered = {"acquisition_number": 1}
    untimed = series("S5", **numbered)
    timed = [series("S2", N, **numbered), series("S3", A, **numbered), series("S4", V, **numbered)]
    plan = plan_phases([*timed, untimed], {}, RULES)
    assert all(len(labels) == 1 for labels in pass_labels(plan))


def test_series_without_times_join_the_pass_of_their_number():
    pairs = [series(f"S{n}", acquisition_number=number) for n, number in ((2, 1), (3, 1), (4, 2), (5, 2))]
    assert pass_labels(plan_phases(pairs, {}, RULES)) == [{"S2", "S3"}, {"S4", "S5"}]


def test_time_that_was_copied_to_another_pass_is_not_believed():
    native = series("S1", N, acquisition_number=1)
    arterial, copied = series("S2", A, acquisition_number=2), series("S3", A, acquisition_number=3)
    plan = plan_phases([native, arterial, copied], vessels(S1=N, S2=A, S3=V), RULES)
    assert pass_labels(plan) == [{"S1"}, {"S2"}, {"S3"}]
    assert finding(plan, "S3").phase in (V, None)
    assert "acquisition time is that of another pass too" in finding(plan, "S2").reasons
    assert pass_labels(plan_phases([native, arterial, copied], {}, RULES)) == [{"S1"}, {"S2", "S3"}]
