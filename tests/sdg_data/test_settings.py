"""Settings: where each value comes from, and what is said about one that makes no sense."""

import tomllib
from pathlib import Path

import pytest

from sdg_data.errors import ConfigError, ExitCode
from sdg_data.settings import load_settings, profiles


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_built_in_profiles_load_and_say_what_their_files_say() -> None:
    assert set(profiles()) == {"mini", "sdg30k"}
    for name, path in profiles().items():
        written = tomllib.loads(path.read_text())
        settings = load_settings(environ={"PROFILE": name})
        assert settings.profile == name
        assert list(settings.generate.models) == written["generate"]["models"]
        assert settings.prompts.test_share == written["prompts"]["test_share"]


def test_the_default_is_mini_in_a_folder_of_the_working_directory() -> None:
    settings = load_settings(environ={})
    assert settings.profile == "mini"
    assert settings.home == Path.cwd() / "data"
    assert settings.blob_url == str(settings.home / "blobs")


def test_the_option_wins_over_the_environment(tmp_path: Path) -> None:
    environ = {"SDG_HOME": str(tmp_path / "env")}
    assert load_settings(environ=environ).home == tmp_path / "env"
    assert load_settings(home=tmp_path / "option", environ=environ).home == tmp_path / "option"


def test_a_config_file_may_start_from_a_profile_and_change_a_part(tmp_path: Path) -> None:
    text = """
        extends = "mini"
        [generate]
        samples_per_prompt = 3
        [storage]
        blobs = "memory://x"
        [models.mine]
        steps = 4
    """
    settings = load_settings(config=write(tmp_path / "mine.toml", text), environ={"PROFILE": "sdg30k"})
    assert settings.profile == "mine"
    assert settings.generate.samples_per_prompt == 3
    assert settings.generate.models == load_settings(environ={}).generate.models
    assert settings.blob_url == "memory://x"
    assert settings.models == {"mine": {"steps": 4}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[generate]\nsampels_per_prompt = 2", "generate.sampels_per_prompt"),
        ("[generate]\nsamples_per_prompt = 0", "generate.samples_per_prompt"),
        ("[prompts]\ntest_share = 1.5", "prompts.test_share"),
        ("[generate", "not a TOML file"),
        ('home = "/x"', "'home'"),
        ('extends = "other"', "no profile 'other'"),
        ("extends = 3", "extends names"),
    ],
)
def test_a_bad_config_file_is_named_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "bad.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_settings(config=path, environ={})
    assert said in str(caught.value)
    assert caught.value.exit_code == ExitCode.CONFIG


def test_an_unknown_profile_and_a_missing_file_are_said() -> None:
    with pytest.raises(ConfigError, match=r"no profile 'maxi'\n.*mini, sdg30k"):
        load_settings(environ={"PROFILE": "maxi"})
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(config=Path("/nowhere/x.toml"), environ={})
