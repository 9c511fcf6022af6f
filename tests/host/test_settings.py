"""Settings of a host: which folders pages may read."""

import json

import pytest
from typer.testing import CliRunner

from engine import home as homes
from engine.cli.main import app
from engine.errors import GraftError
from engine.host import settings


def below(home, loopback=True):
    return settings.reads(home, loopback)["below"]


def test_by_default_pages_read_the_data_folder_and_on_loopback_the_users_home(
    own_home, monkeypatch, tmp_path
):
    monkeypatch.delenv(settings.ROOTS_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    assert below(own_home) == [str(own_home / "data"), str(tmp_path / "ann")]
    assert below(own_home, loopback=False) == [str(own_home / "data")]
    monkeypatch.setenv("HOME", "/")  # some services have no other
    assert below(own_home) == [str(own_home / "data")]


def test_a_setting_comes_before_the_variable_and_the_variable_before_the_default(
    own_home, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(settings.ROOTS_VARIABLE, "/photos:~/more")
    assert below(own_home, loopback=False) == ["/photos", str(tmp_path / "more")]
    settings.change(own_home, allowed_roots="/one:/Two words")
    assert below(own_home) == ["/one", "/Two words"]
    settings.change(own_home, allowed_roots=[])
    assert below(own_home) == []
    settings.change(own_home, allowed_roots=None)
    assert below(own_home, loopback=False) == ["/photos", str(tmp_path / "more")]


@pytest.mark.parametrize("value", ["photos", "", "/a::/b", "~ann/photos", [3], 7, True])
def test_what_is_no_list_of_absolute_paths_is_refused(own_home, value):
    with pytest.raises(GraftError, match="allowed_roots must be absolute paths of folders"):
        settings.change(own_home, allowed_roots=value)
    assert settings.get(own_home)["allowed_roots"] is None


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("/Data:/mnt/photos", ["/Data", "/mnt/photos"]),
        ('["/Data","/a:b"]', ["/Data", "/a:b"]),
        ("Null", None),
    ],
)
def test_the_setting_is_typed_on_the_command_line(own_home, typed, kept):
    command = ["settings", f"allowed_roots={typed}", "--home", str(own_home), "--json"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(done.stdout)["allowed_roots"] == kept
    assert homes.read_json(own_home / homes.SETTINGS)["allowed_roots"] == kept
