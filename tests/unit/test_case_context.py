"""acquisition.json and treatment.json: written, read back, refused when foreign, judged against the published protocol."""

import json

import pytest

from engines.acquisition import CtProtocol, PhaseProtocol, find_deviations, read_protocol, write_protocol
from engines.clinical.regimen import AGENT_FACTS, CheckpointInhibitor, TargetedAgent, parse_regimen
from engines.clinical.response import Response
from engines.clinical.treatment import Treatment, read_treatment, write_treatment
from engines.errors import CaseRefused
from engines.phase import Phase

INSIDE = PhaseProtocol(
    manufacturer="GE MEDICAL SYSTEMS",
    model="LightSpeed VCT",
    kvp=120.0,
    tube_current_ma=300.0,
    slice_thickness_mm=5.0,
    matrix=(512, 512),
    field_of_view_mm=(400.0, 400.0),
    seconds_after_injection=70.0,
)


def test_protocol_is_read_back_as_written(tmp_path):
    protocol = CtProtocol(centre="c-01", phases={Phase.PORTAL_VENOUS: INSIDE, Phase.DELAYED: PhaseProtocol()})
    write_protocol(protocol, tmp_path)
    content = json.loads((tmp_path / "acquisition.json").read_text())
    assert read_protocol(content, "x") == protocol


@pytest.mark.parametrize("content", [[], {"schema": "mmf-acquisition", "schema_version": 2}])
def test_foreign_protocol_is_refused(content):
    with pytest.raises(CaseRefused, match=r"case c7: acquisition\.json"):
        read_protocol(content, "c7")


def test_impossible_number_in_a_protocol_is_refused():
    content = {"schema": "mmf-acquisition", "schema_version": 1, "phases": {"ARTERIAL": {"kvp": "high"}}}
    with pytest.raises(CaseRefused, match="kvp"):
        read_protocol(content, "c7")


def test_protocol_of_the_paper_has_no_deviation_and_unknown_is_none():
    assert find_deviations(Phase.PORTAL_VENOUS, INSIDE) == ()
    assert find_deviations(Phase.DELAYED, PhaseProtocol()) == ()
    assert find_deviations(Phase.ARTERIAL, PhaseProtocol(seconds_after_injection=35.0)) == ()


def test_each_deviation_is_named_with_what_was_expected():
    odd = PhaseProtocol(
        kvp=80.0,
        tube_current_ma=400.0,
        slice_thickness_mm=8.0,
        matrix=(256, 256),
        field_of_view_mm=(400.0, 520.0),
        seconds_after_injection=200.0,
    )
    found = {
        deviation.item: (deviation.value, deviation.expected)
        for deviation in find_deviations(Phase.DELAYED, odd)
    }
    assert found == {
        "kVp": ("80 kV", "100-120 kV"),
        "tube current": ("400 mA", "260-380 mA"),
        "slice thickness": ("8 mm", "0.625-5 mm"),
        "matrix": ("256x256", "512x512"),
        "field of view": ("520 mm", "350-500 mm"),
        "time after injection": ("200 s", "150-180 s"),
    }


def test_treatment_is_read_back_as_written(tmp_path):
    treatment = Treatment(
        regimen=parse_regimen("Apatinib + Camrelizumab"), response=Response.PARTIAL, aetiology="HBV"
    )
    write_treatment(treatment, tmp_path)
    assert read_treatment(json.loads((tmp_path / "treatment.json").read_text()), "x") == treatment


@pytest.mark.parametrize("change", [{"regimen": "aspirin"}, {"response": "better"}, {"schema_version": 9}])
def test_foreign_treatment_is_refused(change):
    content = {
        "schema": "mmf-treatment",
        "schema_version": 1,
        "regimen": None,
        "response": None,
        "aetiology": "",
    }
    with pytest.raises(CaseRefused, match=r"case c7: treatment\.json"):
        read_treatment(content | change, "c7")


def test_every_agent_of_table_8_has_its_targets_and_doses():
    named = {agent for agent in (*CheckpointInhibitor, *TargetedAgent) if not agent.value.startswith("other")}
    assert set(AGENT_FACTS) == named
    assert AGENT_FACTS[TargetedAgent.LENVATINIB].administration.startswith("8 mg (below 60 kg)")
