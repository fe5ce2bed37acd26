"""Settings: typos and wrong types are told, never swallowed."""

from dataclasses import fields
from pathlib import Path

import pytest

from msp.errors import Misconfigured
from msp.settings import Settings, load


def test_defaults_hold_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment={})
    assert settings.port == 8440
    assert settings.database_url == f"sqlite:///{tmp_path}/var/msp.db"
    assert settings.key_path == Path("var/vault.key")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "msp.toml"
    file.write_text('port = 9000\nlanguage = "ru"\ndata = "state"\n')
    settings = load(file, {"MSP_PORT": "9001", "HOME": "/"})
    assert (settings.port, settings.language) == (9001, "ru")
    assert settings.data == tmp_path / "state", "a relative folder is relative to the file that names it"


@pytest.mark.parametrize(
    ("text", "env", "sentence"),
    [
        ("prot = 1", {}, "Unknown setting prot"),
        ("", {"MSP_PROT": "1"}, "Unknown setting prot in the environment"),
        ('port = "many"', {}, "which is not a whole number"),
        ("port = true", {}, "which is not a whole number"),
        ("address = 5", {}, "which is not text"),
        ('secure_cookies = "perhaps"', {}, "which is not true or false"),
        ("port = = 5", {}, "is not valid TOML"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_advice(
    tmp_path: Path, text: str, env: dict[str, str], sentence: str
) -> None:
    file = tmp_path / "msp.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=sentence) as raised:
        load(file, env)
    assert raised.value.advice


def test_a_near_miss_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as raised:
        load(environment={"MSP_DATABSE": "x"})
    assert raised.value.advice == "Did you mean database?"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path / "none.toml", {})


def test_every_setting_explains_itself() -> None:
    assert all(len(item.metadata["explains"]) > 15 for item in fields(Settings))
