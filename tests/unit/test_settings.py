import pytest

from engines.configuration import find_conf
from node.errors import SettingsRefused
from node.settings import Settings, read_settings


def write(tmp_path, text):
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_the_packaged_settings_are_the_defaults():
    assert read_settings() == Settings()


def test_every_fault_is_listed_at_once(tmp_path):
    path = write(
        tmp_path,
        """
        colour = "red"
        [listener]
        port = 70000
        prot = 1
        [completeness]
        quiet_seconds = -1
        [destination]
        first_retry_seconds = 20
        longest_retry_seconds = 10
        """,
    )
    with pytest.raises(SettingsRefused) as refused:
        read_settings(path)
    told = "\n".join(refused.value.faults)
    for word in (
        "colour: unknown setting",
        "listener.port",
        "listener.prot: unknown setting",
        "quiet_seconds",
    ):
        assert word in told
    assert "longer than longest_retry_seconds" in told


def test_an_address_others_can_reach_needs_an_allow_list(tmp_path):
    with pytest.raises(SettingsRefused, match=r"listener\.allowed is empty"):
        read_settings(write(tmp_path, '[listener]\naddress = "0.0.0.0"\n'))
    path = write(
        tmp_path,
        '[listener]\naddress = "0.0.0.0"\n[[listener.allowed]]\nae_title = "CT1"\naddress = "10.0.0.0/8"\n',
    )
    assert read_settings(path).listener.allowed[0].ae_title == "CT1"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('[destination]\nhost = "127.0.0.1"\nport = 11112\n', "own listener"),
        (
            '[listener]\naddress = "0.0.0.0"\n[[listener.allowed]]\nae_title = "CT"\n'
            '[destination]\nhost = "127.0.0.1"\nport = 11112\n',
            "own listener",
        ),
        ("[destination]\ncommitment = true\n", r"destination\.host is empty"),
        ('[models]\nfolder = "/nowhere/at/all"\n', "does not exist"),
        ('[[listener.allowed]]\nae_title = "A\\\\B"\n', "ae_title"),
        ('[[listener.allowed]]\nae_title = "A"\naddress = "300.1.1.1"\n', "300.1.1.1"),
        ("[listener\n", "node.toml"),
        ('[listener]\nae_title = "   "\n', "ae_title"),
        ("[listener]\nport = true\n", "neither a number nor a text"),
        ('[destination]\nhost = "http://pacs"\n', "neither a host name nor an IP address"),
        ('[destination]\nhost = "pacs:104"\n', "neither a host name nor an IP address"),
        ('[listener]\nport = 0\n[destination]\nhost = "pacs"\ncommitment = true\n', "call back"),
        ("[destination]\nlongest_retry_seconds = inf\n", "finite"),
        ("[storage]\nkeep_days = 99999999999\n", "keep_days"),
        ('[storage]\ndata = ""\n', r"storage\.data: is empty"),
        ('[clinical]\ntable = "."\n', "is a folder"),
        ('[models]\nfolder = "node.toml"\n', "is no folder"),
        ('[learning]\ncohort = "x"\nruns = "x"\n', "are one folder"),
    ],
)
def test_a_contradiction_is_refused_with_its_reason(tmp_path, text, word):
    with pytest.raises(SettingsRefused, match=word):
        read_settings(write(tmp_path, text))


def test_a_file_with_a_byte_order_mark_and_an_ipv6_host_are_read(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[destination]\nhost = "fd00::7"\n', encoding="utf-8-sig")
    assert read_settings(path).destination.host == "fd00::7"


def test_the_command_line_wins(tmp_path):
    settings = read_settings(port=0, data=tmp_path / "data")
    assert (settings.listener.port, settings.storage.data) == (0, tmp_path / "data")


def test_relative_paths_mean_the_folder_of_the_file_and_empty_ones_nothing(tmp_path):
    (tmp_path / "clinical.csv").write_text("patient_id\nP1\n")
    path = write(
        tmp_path, '[clinical]\ntable = "clinical.csv"\n[models]\nfolder = ""\n[storage]\ndata = "data"\n'
    )
    settings = read_settings(path)
    assert settings.clinical.table == tmp_path / "clinical.csv"
    assert settings.models.folder is None
    assert settings.storage.data == tmp_path / "data"


def test_a_section_that_is_none_and_a_missing_allow_list_beside_a_bad_port_are_told(tmp_path):
    with pytest.raises(SettingsRefused, match="listener"):
        read_settings(write(tmp_path, "listener = 3\n"), port=0)
    with pytest.raises(SettingsRefused) as refused:
        read_settings(write(tmp_path, '[listener]\naddress = "0.0.0.0"\nport = -1\n'))
    told = "\n".join(refused.value.faults)
    assert "listener.port" in told
    assert "listener.allowed is empty" in told


def test_the_packaged_file_names_every_setting():
    text = find_conf("node.toml").read_text()
    for section, model in Settings.model_fields.items():
        assert f"[{section}]" in text
        for name in model.annotation.model_fields:
            assert f"{name} = " in text or f"[[{section}.{name}]]" in text, f"{section}.{name}"
