from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgelstm.calibration_file import CalibrationFile, calibration_path
from edgelstm.configuration import read_settings
from edgelstm.errors import ArtifactError, ConfigurationError
from edgelstm.loading import load
from edgelstm_devices import shipment as module
from edgelstm_devices.shipment import Options, Shipment, read_shipment, service_name

DATA = Path(__file__).parents[1] / "data"


def copied(name: str, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(DATA / name, to))


def calibrated(artifact: Path) -> Path:
    """Puts a calibration beside an artifact."""
    session = load(artifact)
    detection = session.artifact.manifest.detection
    assert detection is not None
    path = calibration_path(artifact)
    CalibrationFile.of(session.artifact, detection, "test").write(path)
    return path


def unpacked(shipment: Shipment, folder: Path) -> Path:
    """Puts the files where the device has them; returns the configuration."""
    folder.mkdir()
    for name, path in shipment.files.items():
        shutil.copyfile(path, folder / name)
    path = folder / shipment.configuration
    path.write_bytes(shipment.text.encode())
    return path


def written(folder: Path, text: str) -> Path:
    path = folder / "field.toml"
    path.write_text(text, encoding="utf-8")
    return path


ONE = '[sources.board]\nport = "/dev/ttyACM0"\n[sensors.pump]\nartifact = "pump.tflite"\n'


def test_a_configuration_keeps_its_comments_and_its_artifacts_lie_beside_it(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "models/pump.tflite")
    copied("tiny_float.tflite", tmp_path / "new/pump.tflite")
    calibration = calibrated(tmp_path / "models/pump.tflite")
    text = f"""\
\ufeff# Hall 3.
[sources.board]
port = "/dev/ttyACM0"  # the left one
[sensors.pump]
artifact = "models/pump.tflite"  # of May
[sensors.fan]
artifact = "{tmp_path}/new/pump.tflite"
[sensors.inlet]
artifact = "models/../models/pump.tflite"
"""
    shipment = read_shipment(written(tmp_path, text), "hall-3")
    assert shipment.configuration == "hall-3.toml"
    assert shipment.text == (
        text.removeprefix("\ufeff")
        .replace('"models/pump.tflite"', '"pump.tflite"')
        .replace(f'"{tmp_path}/new/pump.tflite"', '"pump-2.tflite"')
        .replace('"models/../models/pump.tflite"', '"pump.tflite"')
    )
    assert shipment.files.keys() == {"pump.tflite", "pump.calibration.json", "pump-2.tflite"}
    assert shipment.files["pump.calibration.json"].resolve() == calibration.resolve()
    assert shipment.models.keys() == {"pump.tflite", "pump-2.tflite"}
    assert shipment.ports == ("/dev/ttyACM0",)
    settings = read_settings(unpacked(shipment, tmp_path / "device"))
    assert settings.sensors["fan"].artifact == tmp_path / "device/pump-2.tflite"


def test_an_artifact_with_a_calibration_and_without_are_two(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "a/pump.tflite")
    copied("tiny.tflite", tmp_path / "b/pump.tflite")
    calibrated(tmp_path / "b/pump.tflite")
    text = f"""\
[sources.board]
port = "/dev/ttyACM0"
[sensors.a]
artifact = "{tmp_path}/a/pump.tflite"
[sensors.b]
artifact = "b/pump.tflite"
"""
    shipment = read_shipment(written(tmp_path, text), "x")
    assert shipment.files.keys() == {"pump.tflite", "pump-2.tflite", "pump-2.calibration.json"}
    assert 'artifact = "pump-2.tflite"' in shipment.text.partition("[sensors.b]")[2]
    without = text.replace('"b/pump.tflite"', '"b/pump.tflite"\ncalibration = false')
    assert read_shipment(written(tmp_path, without), "x").files.keys() == {"pump.tflite"}


def test_names_that_the_release_has_itself_are_not_taken(tmp_path: Path) -> None:
    for name in ("runtime.tflite", "Release.tflite", "--a b\u00e4.tflite", "pump.toml.tflite"):
        copied("tiny.tflite", tmp_path / name)
    found: set[str] = set()
    for path in sorted(tmp_path.glob("*.tflite")):
        shipment = read_shipment(path, "pump", options=Options("/dev/x"))
        found |= shipment.models.keys()
    assert found == {"runtime-2.tflite", "Release-2.tflite", "a-b-.tflite", "pump.toml.tflite"}


def test_an_artifact_gets_a_configuration(tmp_path: Path) -> None:
    path = copied("tiny.tflite", tmp_path / "Pump 3.tflite")
    calibrated(path)
    options = Options("serial:?vid=2341", 57600, "csv", "resample", "edgetpu")
    shipment = read_shipment(path, "pump-3", options=options)
    assert shipment.files.keys() == {"Pump-3.tflite", "Pump-3.calibration.json"}
    assert (shipment.ports, shipment.delegates) == (("serial:?vid=2341",), ("edgetpu",))
    settings = read_settings(unpacked(shipment, tmp_path / "device"))
    source, sensor = settings.sources["device"], settings.sensors["Pump-3"]
    assert (source.port, source.baud_rate, source.format) == ("serial:?vid=2341", 57600, "csv")
    assert (sensor.rate, sensor.delegate) == ("resample", "edgetpu")
    assert (settings.metrics, settings.dashboard, settings.sinks) == (None, None, {})
    plain = read_shipment(path, "pump-3", options=Options("/dev/x")).text
    assert plain.splitlines()[3:] == [
        "[sources.device]",
        'port = "/dev/x"',
        "",
        "[sensors.Pump-3]",
        'artifact = "Pump-3.tflite"',
    ]
    with pytest.raises(ConfigurationError, match="say it with --port"):
        read_shipment(path, "pump-3")


def test_the_port_of_a_configuration_can_be_changed_if_it_is_one(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "pump.tflite")
    shipment = read_shipment(written(tmp_path, ONE), "x", options=Options("/dev/ttyUSB1"))
    assert shipment.text == ONE.replace("/dev/ttyACM0", "/dev/ttyUSB1")
    assert shipment.ports == ("/dev/ttyUSB1",)
    two = ONE + 'source = "board"\n[sources.b]\nport = "/dev/b"\n[sensors.c]\nsource = "b"\n'
    two += 'artifact = "pump.tflite"\n'
    with pytest.raises(ConfigurationError, match=r"several sources, board, b, so that --port"):
        read_shipment(written(tmp_path, two), "x", options=Options("/dev/ttyUSB1"))
    with pytest.raises(ConfigurationError, match="put that into the file"):
        read_shipment(written(tmp_path, ONE), "x", options=Options(baud_rate=9600))


def test_secrets_are_neither_needed_nor_sent(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "pump.tflite")
    text = (
        ONE
        + """
[sinks.home]
type = "mqtt"
host = "broker.local"
user = "edge"
password = { file = "/etc/edgelstm/broker.txt" }
[sinks.a]
type = "webhook"
url = { env = "SLACK_A" }
[sinks.b]
type = "webhook"
url = { credential = "slack-b" }
headers = { Authorization = { file = "~/token" } }
"""
    )
    path = written(tmp_path, text)
    assert read_shipment(path, "x").text == text
    (tmp_path / "broker.txt").write_text("s3cret")
    told = """
[sinks.home]
type = "mqtt"
host = "broker.local"
user = "edge"
password = { file = "broker.txt" }
[sinks.b]
type = "webhook"
url = "https://ntfy.sh/x"
headers = { Authorization = { file = "my/token" } }
[dashboard]
host = "0.0.0.0"
token = { file = "page.txt" }
"""
    path.write_text(ONE + told)
    with pytest.raises(ConfigurationError) as error:
        read_shipment(path, "x")
    assert [line.partition(": ")[2].partition(" ")[0] for line in str(error.value).split("\n")] == [
        "sinks.home.password",
        "sinks.b.headers",
        "dashboard.token",
    ]
    assert str(error.value).split("\n")[0] == (
        f"{path}, line 10: sinks.home.password is in a file beside this one, and secrets are not "
        'sent; put it on the device and write { file = "/etc/edgelstm/broker.txt" }.'
    )
    with pytest.raises(ConfigurationError, match=r"~/\.config/edgelstm/broker\.txt"):
        read_shipment(path, "x", mode="user")


def test_what_a_release_cannot_hold_is_told_all_at_once(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "pump.tflite")
    text = """\
state_directory = "state"
[sources.board]
port = "replay:field.capture?speed=1"
raw = "board.raw"
[sources.pipe]
port = "stdin:"
[sensors.pump]
artifact = "pump.tflite"
source = "board"
delegate = "lib/libmine.so"
[sensors.fan]
artifact = "pump.tflite"
source = "pipe"
[sinks.lines]
type = "jsonl"
path = "alerts.jsonl"
[sinks.page]
type = "command"
argv = ["./page", "--urgent"]
[sinks.home]
type = "mqtt"
host = "broker.local"
certificate = "edge.pem"
key = "edge.key"
"""
    (tmp_path / "edge.pem").write_text("PEM")
    with pytest.raises(ConfigurationError) as error:
        read_shipment(written(tmp_path, text), "hall")
    lines = [line.partition(", line ")[2] for line in str(error.value).split("\n")]
    assert [line.partition(" is")[0].partition(" names")[0] for line in lines] == [
        "1: state_directory",
        "3: sources.board.port",
        "4: sources.board.raw",
        "6: sources.pipe.port",
        "10: sensors.pump.delegate",
        "16: sinks.lines.path",
        "19: sinks.page.argv",
        "24: sinks.home.key",
    ]
    assert 'such as "/var/log/edgelstm/hall/board.raw"' in lines[2]
    assert '"/etc/edgelstm/edge.key"' in lines[-1]


def test_paths_of_the_device_stay_and_what_may_be_sent_is_sent(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "pump.tflite")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/pump.tflite").write_text("an odd name for an authority")
    text = """\
state_directory = "/srv/edgelstm"
[sources.board]
port = "replay:/srv/field.capture"
raw = "/var/log/edgelstm/x/nowhere-here/board.raw"
[sensors.pump]
artifact = "pump.tflite"
delegate = "/usr/lib/libmine.so.1?verbose=1"
[sinks.home]
type = "mqtt"
host = "broker.local"
ca_file = "tls/pump.tflite"
certificate = "/etc/edgelstm/edge.pem"
key = "/etc/edgelstm/edge.key"
[sinks.page]
type = "command"
argv = ["logger", "./relative"]
"""
    shipment = read_shipment(written(tmp_path, text), "x")
    sent = text.replace("tls/pump.tflite", "pump.tflite")
    assert shipment.text == sent.replace('artifact = "pump.tflite"', 'artifact = "pump-2.tflite"')
    assert shipment.files["pump.tflite"] == tmp_path / "tls/pump.tflite"
    assert shipment.models.keys() == {"pump-2.tflite"}
    (tmp_path / "tls/pump.tflite").unlink()
    with pytest.raises(ConfigurationError, match=r"line 11: sinks.home.ca_file names .* no file"):
        read_shipment(written(tmp_path, text), "x")


def test_public_keys_beside_the_configuration_are_sent(tmp_path: Path) -> None:
    copied("tiny.tflite", tmp_path / "pump.tflite")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key.pub.pem").write_text(name)
    keys = 'public_keys = ["a/key.pub.pem", "/etc/edgelstm/no.pem", "b/key.pub.pem"]  # ours\n'
    shipment = read_shipment(written(tmp_path, keys + ONE), "x")
    first, *rest = shipment.text.splitlines(keepends=True)
    assert first == (
        'public_keys = ["key.pub.pem", "/etc/edgelstm/no.pem", "key.pub-2.pem"]  # ours\n'
    )
    assert "".join(rest) == ONE
    assert shipment.files["key.pub-2.pem"].read_text() == "b"
    (tmp_path / "b/key.pub.pem").unlink()
    with pytest.raises(ConfigurationError, match=r"line 1: public_keys names .*b/key.pub.pem, "):
        read_shipment(written(tmp_path, keys + ONE), "x")


def test_mistakes_are_told_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, ONE)
    with pytest.raises(ConfigurationError, match=r"line 4: sensors.pump.artifact names .*no file"):
        read_shipment(path, "x")
    model = copied("tiny.tflite", tmp_path / "pump.tflite")
    calibration_path(model).write_text("{}")
    with pytest.raises(ArtifactError, match="calibrate again"):
        read_shipment(path, "x")
    calibration_path(model).unlink()
    model.write_bytes(model.read_bytes()[:-500])
    with pytest.raises(ArtifactError):
        read_shipment(path, "x")
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_shipment(tmp_path / "gone.tflite", "x", options=Options("/dev/x"))
    monkeypatch.setattr(module, "LARGEST_MODEL", 1000)
    with pytest.raises(ConfigurationError, match="at most 0 MB of such a file are sent"):
        read_shipment(path, "x")


def test_a_service_is_called_as_its_file() -> None:
    names = [service_name(Path(p)) for p in ("a/pump.toml", "Pump 3.tflite", "\u00e4.tflite", "_x")]
    assert names == ["pump", "Pump-3", "edgelstm", "x"]
