import pytest

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
        ('[models]\nfolder = "/nowhere/at/all"\n', "does not exist"),
        ('[[listener.allowed]]\nae_title = "A\\\\B"\n', "ae_title"),
        ('[[listener.allowed]]\nae_title = "A"\naddress = "300.1.1.1"\n', "300.1.1.1"),
        ("[listener\n", "node.toml"),
    ],
)
def test_a_contradiction_is_refused_with_its_reason(tmp_path, text, word):
    with pytest.raises(SettingsRefused, match=word):
        read_settings(write(tmp_path, text))


def test_the_command_line_wins(tmp_path):
    settings = read_settings(port=0, data=tmp_path / "data")
    assert (settings.listener.port, settings.storage.data) == (0, tmp_path / "data")
