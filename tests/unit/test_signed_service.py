"""A service with public keys runs what they signed."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelstm import signing
from edgelstm.cli import main
from edgelstm.configuration import RunSettings, read_settings
from edgelstm.errors import ConfigurationError, MissingDependencyError, SignatureError
from edgelstm.keys import PrivateKey, write_new_keys
from edgelstm.outbox import Outbox
from edgelstm.service.building import build_crew
from edgelstm.signing import sign

TOML = """
public_keys = ["key.pub.pem"]
[sources.board]
port = "/dev/ttyACM0"
[sensors.pump]
artifact = "pump.tflite"
[sensors.fan]
artifact = "pump.tflite"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with keys, an artifact that is not signed, and a configuration."""
    monkeypatch.setattr(signing, "TRUSTED_FOLDER", tmp_path / "trusted")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_new_keys(Path("key.pem"))
    shutil.copy(tiny_path, "pump.tflite")
    Path("x.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    outbox = Outbox(None)
    yield outbox
    outbox.close()


def settings(text: str = TOML) -> RunSettings:
    Path("x.toml").write_text(text)
    return read_settings(Path("x.toml"))


def sign_with(name: str) -> None:
    path = Path("pump.tflite")
    path.write_bytes(sign(path.read_bytes(), PrivateKey.read(Path(name)), path))


def test_what_is_signed_is_watched_alone_and_together(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    sign_with("key.pem")
    with caplog.at_level(logging.INFO):
        build_crew(settings(), outbox).close()
        build_crew(settings(TOML.partition("[sensors.fan]")[0]), outbox).close()
    said = "Only artifacts signed by a key of public_keys of the configuration are run."
    assert caplog.messages.count(said) == 2


def test_without_keys_nothing_is_asked_for(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with caplog.at_level(logging.INFO):
        build_crew(settings(TOML.replace("public_keys", "#")), outbox).close()
    assert "signed" not in caplog.text


def test_what_is_not_signed_is_refused(outbox: Outbox, tiny_path: Path) -> None:
    with pytest.raises(SignatureError, match=r"pump\.tflite is not signed: sign it"):
        build_crew(settings(), outbox)
    write_new_keys(Path("other.pem"))
    sign_with("other.pem")
    with pytest.raises(SignatureError, match="which is not trusted here"):
        build_crew(settings(), outbox)
    Path("pump.tflite").write_bytes(tiny_path.read_bytes()[:7200])  # a model of another tool
    with pytest.raises(SignatureError, match="is not signed"):
        build_crew(settings(), outbox)


def test_a_configuration_narrows_what_the_device_allows_and_does_not_widen_it(
    outbox: Outbox,
) -> None:
    Path("trusted").mkdir()
    write_new_keys(Path("other.pem"))
    shutil.copy("other.pub.pem", "trusted")
    sign_with("key.pem")
    with pytest.raises(SignatureError, match="trusted has "):
        build_crew(settings(), outbox)
    shutil.copy("key.pub.pem", "trusted")
    build_crew(settings(), outbox).close()
    sign_with("other.pem")
    build_crew(settings(TOML.replace("public_keys", "#")), outbox).close()
    with pytest.raises(SignatureError, match="public_keys of the configuration has "):
        build_crew(settings(), outbox)


def test_keys_of_the_user_count(outbox: Outbox) -> None:
    own = Path(".config/edgelstm/trusted")
    own.mkdir(parents=True)
    shutil.copy("key.pub.pem", own)
    without = settings(TOML.replace("public_keys", "#"))
    with pytest.raises(SignatureError, match="is not signed"):
        build_crew(without, outbox)
    sign_with("key.pem")
    build_crew(without, outbox).close()


def test_without_cryptography_it_refuses(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_with("key.pem")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[sign\]'"):
        build_crew(settings(), outbox)


def test_a_key_that_cannot_be_used(outbox: Outbox) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(TOML.replace("key.pub.pem", "gone.pem"))
    assert str(caught.value) == (
        f"x.toml, line 2: public_keys names {Path.cwd() / 'gone.pem'}, which is no file."
    )
    with pytest.raises(SignatureError, match=r"key\.pem is a private key"):
        build_crew(settings(TOML.replace("key.pub.pem", "key.pem")), outbox)
    with pytest.raises(ConfigurationError, match="public_keys is a text; it must be a list"):
        settings(TOML.replace('["key.pub.pem"]', '"key.pub.pem"'))


def test_run_check_says_it_in_a_sentence() -> None:
    result = CliRunner().invoke(main, ["run", "x.toml", "--check"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].endswith(
        "pump.tflite is not signed: sign it with 'edgelstm sign'."
    )
    sign_with("key.pem")
    result = CliRunner().invoke(main, ["run", "x.toml", "--check"])
    assert result.exit_code == 0
    assert result.stdout == "x.toml will do: 2 sensors, 0 sinks.\n"


def test_an_artifact_without_a_configuration_is_checked_as_well() -> None:
    Path("trusted").mkdir()
    shutil.copy("key.pub.pem", "trusted")
    arguments = ["run", "pump.tflite", "--port", "replay:gone.csv", "--check"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "pump.tflite is not signed" in result.stderr
