"""Series that hold several passes are split by what separates them, or refused with the reason."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from node.phases.acquisitions import split_acquisitions
from node.phases.plan import plan_phases
from node.phases.rules import load_rules
from node.study import CT_IMAGE_STORAGE, Instance

T0 = datetime(2024, 5, 17, 9, 0, 0)


def images(count: int, *, first: int = 1, start: float = 0.0, step: float = 5.0, series: str = "S", **fields):
    """Header records of one stack; ``acquired_at`` and ``content_at`` may be given."""
    base = Instance(
        path=Path("x"),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid="",
        study_instance_uid="STUDY",
        series_instance_uid=series,
        modality="CT",
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(0.8, 0.8),
        rows=512,
        columns=512,
    )
    base = replace(base, **fields)
    return [
        replace(
            base,
            sop_instance_uid=f"{series}.{first + n}.{start}.{fields.get('acquisition_number')}.{base.convolution_kernel}",
            instance_number=first + n,
            position_mm=(0.0, 0.0, start + n * step),
        )
        for n in range(count)
    ]


def numbers(acquisitions):
    return [(a.part, len(a.instances), a.split_by, a.refused) for a in acquisitions]


def test_one_regular_stack_stays_whole_and_sorted():
    members = images(30)
    (made,) = split_acquisitions(members[::-1])
    assert (made.part, made.split_by, made.refused) == (0, "", "")
    assert [instance.instance_number for instance in made.instances] == list(range(1, 31))


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("AcquisitionNumber", {"acquisition_number": 2}, {"acquisition_number": 3}),
        (
            "TemporalPositionIdentifier",
            {"temporal_position_identifier": 1},
            {"temporal_position_identifier": 2},
        ),
        (
            "ContrastBolusAgentPhase",
            {"contrast_bolus_agent_phase": "ARTERIAL"},
            {"contrast_bolus_agent_phase": "DELAYED"},
        ),
        ("AcquisitionTime", {"acquired_at": T0}, {"acquired_at": T0 + timedelta(seconds=35)}),
        ("ContentTime", {"content_at": T0}, {"content_at": T0 + timedelta(seconds=40)}),
        ("ConvolutionKernel", {"convolution_kernel": ("B30f",)}, {"convolution_kernel": ("B70f",)}),
    ],
)
def test_passes_at_the_same_positions_are_parted_by_the_attribute_that_separates_them(name, one, two):
    made = split_acquisitions(images(30, **one) + images(30, first=31, **two))
    assert numbers(made) == [(1, 30, name, ""), (2, 30, name, "")]


def test_parts_are_numbered_in_the_order_of_acquisition_not_of_images():
    late = images(30, acquisition_number=2, acquired_at=T0 + timedelta(seconds=40))
    early = images(30, first=31, acquisition_number=7, acquired_at=T0)
    made = split_acquisitions(late + early)
    assert [a.first.acquisition_number for a in made] == [7, 2]


def test_image_order_parts_passes_that_nothing_else_separates():
    made = split_acquisitions(images(30) + images(30, first=31))
    assert numbers(made) == [(1, 30, "image order", ""), (2, 30, "image order", "")]
    assert max(instance.instance_number for instance in made[0].instances) == 30


def test_image_numbers_that_mix_the_passes_are_refused():
    members = images(30) + images(30, first=31)
    taking_turns = sorted(members, key=lambda image: (image.position_mm[2], image.instance_number))
    mixed = [(7 * n + 1) % 61 for n in range(60)]
    for numbered in (range(60), mixed):
        made = split_acquisitions(
            [replace(image, instance_number=n) for image, n in zip(taking_turns, numbered, strict=True)]
        )
        assert len(made) == 1
        assert "several passes in one series that no attribute separates" in made[0].refused


def test_passes_with_per_slice_times_are_parted_at_the_pause():
    members = []
    for start, first in ((T0, 1), (T0 + timedelta(seconds=60), 31)):
        stack = images(30, first=first)
        members += [replace(i, acquired_at=start + timedelta(seconds=0.3 * n)) for n, i in enumerate(stack)]
    assert [a.split_by for a in split_acquisitions(members)] == ["AcquisitionTime"] * 2


def test_passes_and_kernels_together_are_parted_by_two_attributes():
    members = []
    for number in (2, 3):
        for place, kernel in enumerate(("B30f", "B70f")):
            members += images(
                30,
                first=1 + 60 * number + 30 * place,
                acquisition_number=number,
                convolution_kernel=(kernel,),
            )
    made = split_acquisitions(members)
    assert [len(a.instances) for a in made] == [30] * 4
    assert {a.split_by for a in made} == {"AcquisitionNumber and ConvolutionKernel"}


def test_scout_inside_the_series_is_parted_off():
    scout = images(1, first=99, start=500.0, orientation=(1, 0, 0, 0, 0, -1))
    made = split_acquisitions(images(30) + scout)
    assert sorted(len(a.instances) for a in made) == [1, 30]
    assert not any(a.refused for a in made)


def test_passes_on_different_grids_are_parted_by_their_number():
    made = split_acquisitions(
        images(77, start=-228.0, step=2.5, acquisition_number=2)
        + images(95, first=78, start=-273.0, step=2.5, acquisition_number=3)
    )
    assert [len(a.instances) for a in made] == [77, 95]


def test_what_nothing_separates_is_refused_with_its_numbers():
    doubled = images(30) + [
        replace(i, sop_instance_uid=i.sop_instance_uid + "x", instance_number=None) for i in images(30)
    ]
    (made,) = split_acquisitions(doubled)
    assert made.part == 0
    assert "duplicate positions: 60 images at 30 positions" in made.refused


def test_unequal_copies_without_attributes_are_refused():
    (made,) = split_acquisitions(images(30) + images(17, first=31))
    assert "duplicate positions" in made.refused


def test_missing_slice_is_refused_though_numbers_differ_on_both_sides():
    low, high = images(4, acquisition_number=5), images(4, first=5, start=25.0, acquisition_number=4)
    (made,) = split_acquisitions(low + high)
    assert "missing slices: 1" in made.refused


def test_slice_by_slice_acquisition_numbers_are_one_pass():
    members = [replace(i, acquisition_number=n) for n, i in enumerate(images(30))]
    assert len(split_acquisitions(members)) == 1


def test_ranges_scanned_minutes_apart_do_not_become_one_volume():
    chest = images(30, start=150.0, acquisition_number=4, acquired_at=T0)
    liver = images(30, first=31, acquisition_number=5, acquired_at=T0 + timedelta(seconds=45))
    assert len(split_acquisitions(chest + liver)) == 2


def test_instance_that_came_twice_counts_once():
    members = images(30)
    assert len(split_acquisitions(members + members)[0].instances) == 30


def test_objects_that_are_no_ct_come_back_with_the_reason():
    report = replace(images(1, series="R")[0], sop_class_uid="1.2.840.10008.5.1.4.1.1.88.67", modality="SR")
    made = {a.series_instance_uid: a for a in split_acquisitions([*images(30), report])}
    assert made["R"].refused.startswith("not a CT image: SR")
    assert made["S"].refused == ""


def test_screen_captures_inside_an_image_series_are_a_part_of_their_own():
    capture = replace(images(1, first=99)[0], sop_class_uid="1.2.840.10008.5.1.4.1.1.7", instance_number=99)
    made = split_acquisitions([*images(30), capture])
    assert [(a.part, len(a.instances), a.split_by) for a in made] == [
        (1, 30, "SOP class"),
        (2, 1, "SOP class"),
    ]
    assert made[0].refused == ""
    assert made[1].refused.startswith("not a CT image")
    assert len({a.label for a in made}) == 2


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"acquisition_number": 1}, {"acquisition_number": 2}),
        ({"temporal_position_identifier": 1}, {"temporal_position_identifier": 2}),
        ({"acquired_at": T0}, {"acquired_at": T0 + timedelta(seconds=40)}),
        ({"acquired_at": T0}, {"acquired_at": T0 + timedelta(seconds=8)}),
        ({"content_at": T0}, {"content_at": T0 + timedelta(seconds=8)}),
        ({"convolution_kernel": ("B30f",)}, {"convolution_kernel": ("B40f",)}),
        ({}, {}),
    ],
)
def test_passes_half_a_step_apart_do_not_become_one_volume(one, two):
    members = images(30, **one) + images(30, first=31, start=2.5, **two)
    parts = split_acquisitions(members)
    assert [(a.part, len(a.instances), a.refused) for a in parts] == [(1, 30, ""), (2, 30, "")]
    assert [a.first.position_mm for a in parts] == [(0.0, 0.0, 0.0), (0.0, 0.0, 2.5)]


def test_pass_that_lacks_a_slice_is_refused_and_the_other_is_not():
    whole = images(30, acquisition_number=1)
    holed = [image for image in images(30, first=31, acquisition_number=2) if image.instance_number != 45]
    first, second = split_acquisitions(whole + holed)
    assert (len(first.instances), first.refused) == (30, "")
    assert len(second.instances) == 29
    assert second.refused.startswith("missing slices: 1")


def test_passes_half_a_step_apart_with_equal_image_numbers_are_refused():
    (made,) = split_acquisitions(images(30) + images(30, start=2.5, series="S"))
    assert (
        made.refused
        == "2 images of each number between each other: several passes that no attribute separates"
    )
    (lacking,) = split_acquisitions(images(30) + images(29, start=2.5))
    assert lacking.refused == made.refused


@pytest.mark.parametrize("chest", [20, 30, 33])
def test_ranges_that_continue_each_other_may_bear_the_same_image_numbers(chest):
    (made,) = split_acquisitions(images(33) + images(chest, start=165.0))
    assert (len(made.instances), made.refused) == (33 + chest, "")


def test_passes_half_a_step_apart_are_parted_behind_their_kernels():
    members = []
    for place, kernel in enumerate(("B30f", "B70f")):
        for number, start in enumerate((0.0, 2.5)):
            first = 1 + 60 * number + 30 * place
            members += images(30, first=first, start=start, convolution_kernel=(kernel,))
    made = split_acquisitions(members)
    assert numbers(made) == [(part, 30, "ConvolutionKernel and image order", "") for part in (1, 2, 3, 4)]
    assert len({(a.first.convolution_kernel, a.first.position_mm) for a in made}) == 4


def test_scan_that_was_interrupted_says_so_where_its_parts_are_too_short():
    high = images(25, start=100.0, step=4.0, acquired_at=T0)
    low = images(25, first=26, step=4.0, acquired_at=T0 + timedelta(seconds=20))
    for finding in plan_phases(split_acquisitions(high + low), {}, load_rules()).findings:
        assert finding.excluded.startswith(
            "covers 100 mm, less than 150; a part of a series whose scan was interrupted"
        )
