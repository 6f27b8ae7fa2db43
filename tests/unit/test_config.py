"""Settings: precedence, refusals in words, and the rule about open networks."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from digital_twins import InputError, NotFoundError
from digital_twins._logging import setup_logging
from digital_twins.config import Settings, is_loopback, load_settings, load_with_origins


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TWIN_{name.upper()}", raising=False)
    monkeypatch.delenv("TWIN_CONFIG", raising=False)


def test_defaults():
    settings = load_settings()
    assert (settings.host, settings.dicom_port, settings.http_port) == ("127.0.0.1", 11112, 8042)
    assert (settings.ae_title, settings.study_stable_seconds, settings.workers) == ("TWIN", 2.0, 1)
    assert settings == Settings()


def test_flag_over_environment_over_file_over_default(tmp_path, monkeypatch):
    (tmp_path / "twin.toml").write_text('ae_title = "FILE"\nhttp_port = 1\ndicom_port = 2\n')
    monkeypatch.setenv("TWIN_HTTP_PORT", "10")
    monkeypatch.setenv("TWIN_DICOM_PORT", "20")
    settings, origins = load_with_origins(dicom_port=200, workers=None)
    assert (settings.ae_title, settings.http_port, settings.dicom_port, settings.workers) == (
        "FILE",
        10,
        200,
        1,
    )
    assert {name: origins[name].origin for name in ("ae_title", "http_port", "dicom_port", "workers")} == {
        "ae_title": "twin.toml",
        "http_port": "environment TWIN_HTTP_PORT",
        "dicom_port": "flag",
        "workers": "default",
    }
    assert set(origins) == set(Settings.model_fields)
    assert origins["http_port"].value == 10


def test_a_named_file(tmp_path, monkeypatch):
    (tmp_path / "other.toml").write_text('data_dir = "/srv/twin"\n')
    assert load_settings(config_file="other.toml").data_dir == Path("/srv/twin")
    monkeypatch.setenv("TWIN_CONFIG", "other.toml")
    assert load_settings().data_dir == Path("/srv/twin")
    with pytest.raises(NotFoundError, match=r"missing\.toml"):
        load_settings(config_file="missing.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("htp_port = 1", "Did you mean 'http_port'"),
        ("zzz = 1", "Remove it"),
        ("http_port = 70000", "65535"),
        ("http_port = 'many'", "integer"),
        ("ae_title = 'MUCH TOO LONG A TITLE'", "1 to 16"),
        ("ae_title = 'A\\B'", "backslash"),
        ("workers = 0", "greater than or equal to 1"),
        ("log_level = 'chatty'", "DEBUG"),
        ("http_port 1", "not TOML"),
        ("host = 'caf\xe9'", "UnicodeDecodeError"),
    ],
)
def test_mistakes_in_the_file_are_told_in_words(tmp_path, text, says):
    (tmp_path / "twin.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as error:
        load_settings()
    assert says in str(error.value)
    assert "twin.toml" in error.value.what
    assert error.value.why
    assert error.value.fix


def test_a_bad_variable_or_flag_names_its_origin(monkeypatch):
    with pytest.raises(InputError, match="flag"):
        load_settings(http_port=-1)
    with pytest.raises(InputError, match="'nonsense'"):
        load_settings(nonsense=1)
    monkeypatch.setenv("TWIN_HTTP_PORT", "x")
    with pytest.raises(InputError, match="environment TWIN_HTTP_PORT"):
        load_settings()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_needs_no_permission(host):
    assert load_settings(host=host).host == host
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "node.hospital.example", ""])
def test_an_open_address_is_refused_without_the_explicit_word(host):
    with pytest.raises(InputError) as error:
        load_settings(host=host)
    assert "sign in" in error.value.why
    assert "allow_unauthenticated_network" in error.value.fix


def test_the_explicit_word_is_logged():
    stream = io.StringIO()
    setup_logging(stream=stream)
    try:
        settings = load_settings(host="0.0.0.0", allow_unauthenticated_network=True)
    finally:
        logging.getLogger().handlers.clear()
    assert settings.host == "0.0.0.0"
    line = json.loads(stream.getvalue().splitlines()[0])
    assert (line["level"], line["event"]) == ("warning", "config.network.unauthenticated")


def test_settings_do_not_change():
    with pytest.raises(Exception, match="frozen"):
        load_settings().http_port = 1
