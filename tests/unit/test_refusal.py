"""Why a study lacks a phase: where nothing is a phase, the reason says what was left out and why."""

from node.dicom.headers import read_folder
from node.phases.acquisitions import split_acquisitions
from node.phases.plan import plan_phases
from node.phases.refusal import explain_missing
from node.phases.rules import load_rules
from node.report.record import ReasonCode
from tests.bad_studies import Recipe, change, write_study


def test_images_that_say_another_modality_are_named_with_it(tmp_path):
    recipe = Recipe(number=1)

    def spoil(folder):
        change(folder.glob("*.dcm"), lambda dataset: setattr(dataset, "Modality", "OT"))

    folder = write_study(tmp_path, Recipe(number=1, spoil=spoil))
    rules = load_rules(None)
    plan = plan_phases(split_acquisitions(read_folder(folder)[0]), {}, rules, {})
    refusal = explain_missing(plan, rules.decision.used)
    assert refusal.code == ReasonCode.MISSING_PHASE
    for phase in recipe.phases:
        series = recipe.plan(phase).series_instance_uid
        assert f"series {series} is left out: not a CT image: modality OT" in refusal.reason
