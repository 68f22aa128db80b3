"""Texts in many languages name a phase; texts that only look like it do not."""

import pytest

from engines.errors import InvalidInput
from engines.phase import Phase
from node.phases.rules import load_rules
from node.phases.texts import SILENT, fold_text, read_study_text, read_text, repair_text

RULES = load_rules()
N, A, V, D = Phase.PRE_CONTRAST, Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("PRE LIVER", N), ("Recon 2: PRE LIVER", N), ("Non-contrast  5.0  B40f", N), ("liver wo  5.0  B40f", N),
        ("ABD W/O", N), ("DRY LIVER", N), ("C-", N), ("unenhanced", N), ("上腹部平扫", N), ("Abd nativ", N),
        ("ABDO SANS INJECTION", N), ("AS SC 2.5mm", N), ("bez kontrastu", N), ("単純", N),
        ("Late Art. phase  3.0  B40f", A), ("ARTERIAL PHASE", A), ("HAP", A), ("动脉期", A), ("動脈相", A),
        ("Abd arteriell 1.5", A), ("TEMPS ARTÉRIEL", A), ("faza tętnicza", A), ("fase arteriosa", A), ("артериальная", A),
        ("P.Venous pha  3.0  B40f", V), ("VOLUME PORTAL", V), ("PORTAL VENOUS", V), ("venous phase", V), ("门脉期", V),
        ("门静脉期", V), ("静脉期", V), ("portalvenös", V), ("żylna", V), ("late portal", V), ("PV Abd", V),
        ("LIVER DELAY", D), ("EQUILIBRIO", D), ("延迟期", D), ("spätvenös", D), ("Spät", D), ("tardif", D),
        ("delayed venous", D), ("faza późna", D),
    ],
)  # fmt: skip
def test_words_of_many_languages_name_their_phase(text, phase):
    assert read_text(text, RULES).phase == phase


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("35 sec", A), ("30 SEC DELAY", A), ("Liver 70s", V), ("70 sec", V), ("180 sec Delay  3.0  B40f", D),
        ("Liver  10 min  3.0  B40f", D), ("Adrenal 15 min", D), ("3 MIN", D), ("5min delay", D), ("延迟 180 秒", D),
    ],
)  # fmt: skip
def test_minutes_and_seconds_are_read_as_scan_delays(text, phase):
    assert read_text(text, RULES).phase == phase


@pytest.mark.parametrize(
    "text", ["30 70 120 SEC DELAY", "Recon 2 30 70 120 SEC DELAY", "arterial + portal", "动脉期 门脉期"]
)
def test_several_phases_in_one_text_name_none(text):
    reading = read_text(text, RULES)
    assert reading.phase is None
    assert reading.several
    assert not reading.speaks


@pytest.mark.parametrize(
    "text",
    [
        "LIVER 3 PHASE (AP)", "CT A/P", "C/A/P", "AP ROUTINE", "APRoutine 5.0 B40f", "BIPHASIC LIVER", "3 PHASE LIVER (ABD)",
        "", " ", "150cc OMNIPAQUE", "2.5 STANDARD", "3.0", "AXIAL", "CT Body 3.0", "Abd 5.0 B41s", "0.5s", "1.25MM", "AR",
        "ABD/PV", "intravenous", "w/wo", "ABDOMEN WITHOUT AND WITH", "pre-op", "Port", "MinIP 2 3.0", "70", "C Ap",
        "120kV Art-Port", "上腹动静脉期", "venous access", "Venous Doppler", "trigger delay 10 s",
    ],
)  # fmt: skip
def test_traps_name_no_phase(text):
    assert read_text(text, RULES).phase is None


@pytest.mark.parametrize(
    "text", ["with non-ionic contrast", "CC 1.25mm STD", "POST", "C+", "with omnipaque contrast", "增强"]
)
def test_enhanced_alone_speaks_against_native_only(text):
    reading = read_text(text, RULES)
    assert reading.phase is None
    assert reading.likelihood[0] < 0.1
    assert set(reading.likelihood[1:]) == {1.0}


def test_intravenous_contrast_is_not_venous_and_non_contrast_is_not_contrast():
    assert read_text("ABDOMEN INTRAVENOUS CONTRAST", RULES).phase is None
    assert read_text("ABDOMEN NON-CONTRAST", RULES).phase == N


@pytest.mark.parametrize(
    "text",
    ["Abdomen, Contrast Non, 5mm", "KM ohne 5mm", "Контраст без 5.0", "IV CONTRAST W/O", "mdc senza", "CE(-)", "Contrast: none"],
)  # fmt: skip
def test_negation_behind_the_contrast_makes_it_native(text):
    assert read_text(text, RULES).phase == N


def test_word_beside_a_time_must_not_contradict_it():
    assert read_text("portal 70s", RULES).phase == V
    assert read_text("arterial 180 sec", RULES).several


def test_doubtful_words_weigh_less_than_plain_ones():
    plain, doubtful = read_text("portal venous", RULES).likelihood, read_text("venous", RULES).likelihood
    assert max(plain[:2] + plain[3:]) < max(doubtful[:2] + doubtful[3:]) < 1.0


def test_venous_may_be_late_but_is_never_native():
    native, arterial, _, delayed, _ = read_text("venous", RULES).likelihood
    assert native == RULES.text.plain
    assert arterial == delayed == RULES.text.doubtful


@pytest.mark.parametrize(
    "text",
    [
        "CT LIVER PRE-LIVER TRANSPLANT", "CT ABD PRE LIVER TX", "PRE DIALYSIS", "CT ABD W/O ORAL W IV", "WW400 WL40",
        "TC addome senza mdc orale", "CT contrast no oral", "contrast no 2", "contrast pre TACE",
        "KM ohne Probleme", "Oral contrast: none", "LIVER ORAL CONTRAST NO", "PO contrast free",
        "IV CONTRAST FREE BREATHING", "contrast, free-breathing 3mm",
    ],
)  # fmt: skip
def test_indications_oral_contrast_and_windows_make_no_study_native(text):
    assert read_study_text(text, RULES) == SILENT


@pytest.mark.parametrize(
    "text", ["TC abdomen con y sin contraste", "mit und ohne KM", "avec et sans injection", "con e senza mdc"]
)
def test_with_and_without_in_either_order_is_both(text):
    assert read_study_text(text, RULES).both


def test_gbk_labelled_latin_is_repaired_and_umlauts_are_left_alone():
    assert repair_text("上腹部动脉期".encode("gbk").decode("latin-1")) == "上腹部动脉期"
    for text in (
        "Abd spätvenös",
        "Größe, Übersicht, Prüfung",
        "temps artériel",
        "tardía",
        "plain ascii",
        "żylna",
    ):
        assert repair_text(text) == text


def test_folding_removes_accents_widths_and_case():
    assert fold_text("ＡＲＴ_Tętnicza  Spät\tÉquilibre") == "art tetnicza spat equilibre"


def test_rules_with_faults_are_refused_with_every_fault_named(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("schema_version = 2\nunknown = 1\n")
    with pytest.raises(InvalidInput, match=r"(?s)schema_version.*unknown"):
        load_rules(path)


def test_rules_may_begin_with_a_byte_order_mark_but_are_in_utf_8(tmp_path):
    from engines.configuration import find_conf

    path, content = tmp_path / "phases.toml", find_conf("phases.toml").read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + content)
    assert load_rules(path) == RULES
    path.write_bytes(content + "# Spät".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"is not TOML: 'utf-8' codec"):
        load_rules(path)


def test_older_rules_say_what_they_lack_and_where_to_copy_it_from(tmp_path):
    from engines.configuration import find_conf

    text = find_conf("phases.toml").read_text()
    start = text.index("[study]")
    path = tmp_path / "phases.toml"
    path.write_text(text[:start] + text[text.index("[agent]", start) :])
    with pytest.raises(
        InvalidInput, match=r"(?s)1 faults:\nstudy: Field required\nwhat is missing may be newer"
    ) as caught:
        load_rules(path)
    assert "copy it from the conf/phases.toml of this version" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("'AB50']", "'[']", r"kernels.soft.*no regular expression"),
        ("patterns = ['w/o", "patterns = ['(', 'w/o", r"text.says.0.patterns.*no regular expression"),
        (", OTHER = 0.5 }", " }", r"portal_vein_unseen: .*must name OTHER"),
        ("PRE_CONTRAST = 0.01, other = 1.0 }", "PRE_CONTRAST = 0.01 }", r"attribute.POST_CONTRAST: .*must name ARTERIAL"),
        ("PRE_CONTRAST = 0.01, other = 1.0 }", "NATIVE = 0.01, other = 1.0 }", r"attribute.POST_CONTRAST: .*NATIVE: no such state"),
        ("[[31.4, 18.4], [18.4, 26.5]]", "[[0.0, 0.0], [0.0, 0.0]]", r"positive definite"),
    ],
)  # fmt: skip
def test_rules_that_would_fail_at_a_later_study_are_refused_when_read(tmp_path, old, new, fault):
    from engines.configuration import find_conf

    text = find_conf("phases.toml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "phases.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InvalidInput, match=fault):
        load_rules(path)


def test_site_adds_a_word_without_touching_code(tmp_path):
    from engines.configuration import find_conf

    text = find_conf("phases.toml").read_text()
    added = '\n[[text.says]]\nphase = "ARTERIAL"\nstrength = "plain"\nwords = ["phasis rubra"]\n'
    path = tmp_path / "phases.toml"
    path.write_text(text.replace("# Enhanced, but which", added + "# Enhanced, but which"))
    assert read_text("Phasis Rubra 3.0", load_rules(path)).phase == A
    assert read_text("Phasis Rubra 3.0", RULES).phase is None
