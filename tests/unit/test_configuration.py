from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgelstm.alert import Severity
from edgelstm.configuration import read_settings, read_state_directory
from edgelstm.configuration.fields import fields_of
from edgelstm.configuration.locate import locate
from edgelstm.configuration.problems import Problems
from edgelstm.configuration.reading import sink_fields
from edgelstm.configuration.settings import (
    DashboardSettings,
    DetectionSettings,
    MetricsSettings,
    OutboxSettings,
    RunSettings,
    SensorSettings,
    SourceSettings,
)
from edgelstm.configuration.table import TableReader
from edgelstm.configuration.toml_text import format_key, format_value
from edgelstm.errors import ConfigurationError
from edgelstm.secret import Secret
from edgelstm.sinks.registry import SINKS

MINIMAL = """\
[sources.board]
port = "/dev/ttyACM0"
[sensors.pump]
artifact = "pump.tflite"
"""

COMPLETE = """\
name = "pump-room"
state_directory = "state"
save_every = 30

[sources.board]
port = "/dev/ttyACM0"
baud_rate = 57600
format = "csv:header=no"
raw = "board.raw"
timeout = 20

[sources.plant]
port = "mqtt://reader@broker.local/plant"
password = { env = "PLANT" }

[sensors.pump]
artifact = "pump.tflite"
source = "board"
channels = { flow = "flow_rate" }
rate = "resample"
calibration = false
backend = "litert"
delegate = "edgetpu"
evidence = 0

[sensors.pump.detection]
false_alarms_per_day = 1
threshold = "spot"
k = 3
n = 5
minimum_duration = 30
quiet = 20
cool_down = 3600
release = 0.5
critical = 3

[sensors.fan]
artifact = "models/fan.tflite"
source = "plant"

[sinks.file]
type = "jsonl"
path = "~/alerts.jsonl"
sensors = ["pump"]
events = ["opened", "closed"]
minimum_severity = "warning"
quiet_hours = "22:00-06:00"

[sinks.page]
type = "webhook"
url = { env = "HOOK" }
headers = { Authorization = { file = "token.txt" }, X-From = "pump room" }

[outbox]
max_megabytes = 16
max_days = 7.5

[dashboard]
host = "0.0.0.0"
port = 0
token = { credential = "dashboard" }

[metrics]
port = 9000
"""

MARKER = "Xyzzy-9f3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("pump.tflite", "models/fan.tflite"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "token.txt").write_text("the token\n")
    (tmp_path / "token.txt").chmod(0o600)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/dashboard").write_text("the dashboard's\r\n")
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {
        "HOME": "/home/pi",
        "PLANT": "a/b:c@d",
        "HOOK": "https://hooks.example/abc",
        "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
    }


def read(folder: Path, text: str, **environ: str) -> RunSettings:
    path = folder / "pump.toml"
    path.write_text(text)
    return read_settings(path, environ=environment(folder) | environ)


def mistakes(folder: Path, text: str, **environ: str) -> list[str]:
    """What is said of a file, without its name."""
    with pytest.raises(ConfigurationError) as error:
        read(folder, text, **environ)
    lines = str(error.value).split("\n")
    assert all(line.startswith(str(folder / "pump.toml")) for line in lines)
    return [line.removeprefix(str(folder / "pump.toml")).removeprefix(", ") for line in lines]


def test_what_is_left_out_has_its_default(folder: Path) -> None:
    found = read(folder, MINIMAL, XDG_STATE_HOME="/var/states")
    assert found.sources == {"board": SourceSettings("/dev/ttyACM0")}
    assert found.sensors == {"pump": SensorSettings(folder / "pump.tflite", "board")}
    assert re.fullmatch("[A-Za-z0-9_-]+", found.name)
    assert found.state_directory == Path("/var/states/edgelstm") / found.name
    assert found.path == folder / "pump.toml"
    assert (found.sinks, found.dashboard, found.metrics) == ({}, None, None)
    assert (found.outbox, found.save_every) == (OutboxSettings(), 60.0)


def test_every_key_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/pi")  # `expanduser` looks there
    found = read(folder, COMPLETE)
    jsonl, webhook = (sink_fields(kind)[2] for kind in ("jsonl", "webhook"))
    assert (found.name, found.save_every, found.state_directory) == (
        "pump-room",
        30.0,
        folder / "state",
    )
    assert found.sources == {
        "board": SourceSettings(
            "/dev/ttyACM0", None, 57_600, "csv:header=no", folder / "board.raw", 20.0
        ),
        "plant": SourceSettings("mqtt://reader@broker.local/plant", Secret("a/b:c@d")),
    }
    assert found.sources["plant"].url() == "mqtt://reader:a%2Fb%3Ac%40d@broker.local/plant"
    assert found.sensors == {
        "pump": SensorSettings(
            folder / "pump.tflite",
            "board",
            {"flow": "flow_rate"},
            "resample",
            False,
            "litert",
            "edgetpu",
            0,
            DetectionSettings(1.0, "spot", 3, 5, 30.0, 20, 3600.0, 0.5, 3.0),
        ),
        "fan": SensorSettings(folder / "models/fan.tflite", "plant"),
    }
    file, page = found.sinks["file"], found.sinks["page"]
    assert (file.name, file.config) == ("file", jsonl(path=Path("/home/pi/alerts.jsonl")))
    assert (file.options.sensors, file.options.events) == (("pump",), ("opened", "closed"))
    assert file.options.minimum_severity is Severity.WARNING
    assert file.options.quiet_hours == "22:00-06:00"
    assert page.config == webhook(
        url=Secret("https://hooks.example/abc"),
        headers={"Authorization": Secret("the token"), "X-From": "pump room"},
    )
    assert found.outbox == OutboxSettings(16.0, 7.5)
    assert found.dashboard == DashboardSettings("0.0.0.0", 0, Secret("the dashboard's"))  # noqa: S104
    assert found.metrics == MetricsSettings(port=9000)
    assert type(found.sensors["pump"].detection.critical) is float


with (Path(__file__).parents[1] / "data/configuration_mistakes.toml").open("rb") as _file:
    MISTAKES = tomllib.load(_file)["mistake"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["said"][:60])
def test_a_mistake_is_told_once_with_its_line_its_key_and_what_was_meant(
    folder: Path, mistake: dict[str, str]
) -> None:
    text = mistake["new"]
    if "old" in mistake:
        assert mistake["old"] in MINIMAL
        text = MINIMAL.replace(mistake["old"], text)
    said = mistake["said"].replace("FOLDER", str(folder)).replace("TYPES", ", ".join(SINKS))
    assert mistakes(folder, text) == [said]


def test_all_mistakes_are_told_in_the_order_of_the_file_and_at_most_ten(folder: Path) -> None:
    keys = [f"key{n:02} = {n}" for n in range(12)]
    found = mistakes(folder, MINIMAL.replace("artifact =", "\n".join([*keys, "artifac ="])))
    assert [line.split(":")[0] for line in found[:10]] == [f"line {n}" for n in range(4, 14)]
    assert all("sensors.pump has no key" in line for line in found[:10])
    assert found[10:] == [" has 3 more mistakes."]


def test_a_key_that_is_far_from_all_others_is_answered_with_what_there_may_be(folder: Path) -> None:
    (said,) = mistakes(folder, MINIMAL + "colour = 1")
    names = ", ".join(field.name for field in fields_of(SensorSettings))
    assert said == f"line 5: sensors.pump has no key 'colour'; it may have {names}."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[sources.board]\nport /dev/x\n", "{}, line 2: This is not TOML, in column 6: Expected"),
        (b"[sources.board]\nport = ", "{}, line 2: This is not TOML, at the end of the file: "),
        (b"a = 1\na = 2\n", "{}, line 2: This is not TOML, in column 6: Cannot overwrite a value."),
        (b"name = '\xff'", "{} is not text in UTF-8; save it anew as that."),
        (b"a = 1" + 5000 * b"0", "{} has a value that no setting could have."),
        (b"a = " + 5000 * b"[", "{} has a value that no setting could have."),
    ],
    ids=["syntax", "end", "twice", "encoding", "digits", "brackets"],
)
def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "pump.toml"
    path.write_bytes(text)
    for reader in (read_settings, read_state_directory):
        with pytest.raises(ConfigurationError) as error:
            reader(path, environ={})
        assert str(error.value).startswith(said.format(path))


def test_what_only_looks_like_a_clash_is_taken(folder: Path) -> None:
    text = """\
    [sources.a]
    port = "socket://host:7000"
    [sources.b]
    port = "socket://host:7000"
    [sensors.a]
    source = "a"
    artifact = "pump.tflite"
    [sensors.b]
    source = "b"
    artifact = "pump.tflite"
    [sinks.a]
    type = "log"
    sensors = ["a"]
    [sinks.b]
    type = "log"
    sensors = ["b"]
    [dashboard]
    port = 0
    [metrics]
    port = 0
    """
    assert read(folder, text).sinks.keys() == {"a", "b"}
    assert read(folder, text.replace("port = 0", "host = '::1'\nport = 80", 1)).metrics
    found = read(folder, text.replace("[metrics]\n    port = 0", "[metrics]\nport = 8765"))
    assert found.dashboard == DashboardSettings(port=0)


def test_a_file_that_is_not_there_is_told_how_to_write(tmp_path: Path) -> None:
    path = tmp_path / "pump.toml"
    with pytest.raises(ConfigurationError, match=r"^There is no file .*; 'edgelstm run --write-"):
        read_settings(path)
    with pytest.raises(ConfigurationError, match=r"cannot be read: Is a directory\.$"):
        read_settings(tmp_path)


def test_files_of_windows_are_read(folder: Path) -> None:
    path = folder / "pump.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert set(read_settings(path, environ={}).sensors) == {"pump"}
    path.write_bytes(path.read_bytes() + b"\r\nrat = 1")
    with pytest.raises(
        ConfigurationError, match=r"pump\.toml, line 6: .* 'rat'; did you mean 'rate'"
    ):
        read_settings(path, environ={})


def test_a_relative_path_of_the_file_gives_absolute_paths(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/pump.toml").write_text(MINIMAL.replace('"pump', '"../pump'))
    monkeypatch.chdir(folder)
    found = read_settings(Path("etc/pump.toml"), environ={})
    assert found.path == folder / "etc/pump.toml"
    assert found.sensors["pump"].artifact == folder / "etc/../pump.tflite"


def test_the_state_directory_is_found_without_the_rest(folder: Path) -> None:
    path = folder / "pump.toml"
    path.write_text(COMPLETE)
    assert read_state_directory(path, environ={}) == folder / "state"
    path.write_text("name = 'yard'\nwrong = 1\n[sinks.x]\npassword = { env = 'MISSING' }")
    for environ, expected in (
        ({"STATE_DIRECTORY": "/var/lib/edgelstm/a:/var/lib/b"}, "/var/lib/edgelstm/a"),
        ({"XDG_STATE_HOME": "/srv/states", "HOME": "/root"}, "/srv/states/edgelstm/yard"),
        ({"XDG_STATE_HOME": "states", "HOME": "/root"}, "/root/.local/state/edgelstm/yard"),
        ({}, f"{Path.home()}/.local/state/edgelstm/yard"),
    ):
        assert read_state_directory(path, environ=environ) == Path(expected)
    path.write_text("name = 3")
    with pytest.raises(ConfigurationError, match=r", line 1: name is 3; it must be a text"):
        read_state_directory(path, environ={})


def secret(folder: Path, table: str, **environ: str) -> str:
    """The dashboard's token as a table gives it."""
    found = read(folder, f"{MINIMAL}[dashboard]\ntoken = {table}\n", **environ).dashboard
    assert found is not None
    assert found.token is not None
    return found.token.reveal()


def test_a_secret_comes_from_the_environment_a_file_or_systemd(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert secret(folder, '{ env = "WORD" }', WORD=" a b ") == " a b "
    assert secret(folder, '{ file = "token.txt" }') == "the token"
    assert secret(folder, f'{{ file = "{folder}/token.txt" }}') == "the token"
    assert secret(folder, '{ credential = "dashboard" }') == "the dashboard's"
    assert not caplog.records
    (folder / "token.txt").chmod(0o644)
    with caplog.at_level(logging.WARNING, "edgelstm"):
        assert secret(folder, '{ file = "token.txt" }') == "the token"
    assert f"everybody may read it; run: chmod o-r {folder}/token.txt" in caplog.text
    assert "the token" not in caplog.text.replace("token.txt", "")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (f'"{MARKER}"', "is a secret, which does not belong into the file as it is; write { env"),
        (f'["{MARKER}"]', 'must be one of { env = "TOKEN" }, { file = "token.txt" } or { cred'),
        (f'{{ value = "{MARKER}" }}', "must be one of { env"),
        (f'{{ env = "TOKEN", file = "{MARKER}" }}', "must be one of { env"),
        (f'{{ env = ["{MARKER}"] }}', "must be one of { env"),
        ('{ env = "" }', "must be one of { env"),
        ("{}", "must be one of { env"),
        ('{ env = "NOT_SET" }', "comes from the variable NOT_SET, which is not set."),
        ('{ env = "EMPTY" }', "comes from the variable EMPTY, which is empty."),
        ('{ env = "LINES" }', "comes from the variable LINES, which has more than one line, or"),
        ('{ file = "gone" }', "comes from FOLDER/gone, which cannot be read: No such file or dir"),
        ('{ file = "models" }', "comes from FOLDER/models, which cannot be read: Is a directory."),
        ('{ file = "bytes" }', "comes from FOLDER/bytes, which is not text in UTF-8."),
        ('{ file = "empty" }', "comes from FOLDER/empty, which is empty."),
        ('{ file = "long" }', "comes from FOLDER/long, which is too long for a secret."),
        ('{ file = "~nobody-here/x" }', "names a user that this computer does not have."),
        ('{ credential = "../../token.txt" }', "names a credential with a slash in it, which"),
        ('{ credential = "gone" }', "comes from FOLDER/credentials/gone, which cannot be read: No"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_and_never_shown(
    folder: Path, table: str, said: str
) -> None:
    (folder / "bytes").write_bytes(b"\xff" + MARKER.encode())
    (folder / "empty").write_text("\n")
    (folder / "long").write_text(MARKER * 10_000)
    lines = f"{MARKER}\n{MARKER}"
    with pytest.raises(ConfigurationError) as error:
        secret(folder, table, EMPTY="", LINES=lines)
    found = str(error.value)
    assert found.startswith(f"{folder}/pump.toml, line 6: dashboard.token ")
    assert said.replace("FOLDER", str(folder)) in found
    assert MARKER not in found


def test_a_credential_needs_systemd(folder: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"only systemd gives \(LoadCredential=dashboard:/"
    ):
        secret(folder, '{ credential = "dashboard" }', CREDENTIALS_DIRECTORY="")


def test_a_password_in_a_url_is_refused_and_not_repeated(folder: Path) -> None:
    (said,) = mistakes(folder, MINIMAL.replace("/dev/ttyACM0", f"mqtt://pi:{MARKER}@host/t"))
    assert said.startswith("line 2: sources.board.port has a password in it; leave it out (mqtt://")
    assert MARKER not in said
    found = read(folder, MINIMAL.replace("/dev/ttyACM0", "socket://host:7000"))
    assert found.sources["board"].url() == "socket://host:7000"


def places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where values are in parsed TOML."""
    pairs = data.items() if isinstance(data, dict) else ()
    return [place, *(found for name, value in pairs for found in places(value, (*place, name)))]


def put(data: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The same data with another value in one place."""
    name, *more = place
    return data | {name: put(data[name], tuple(more), value) if more else value}


def write(data: dict[str, Any]) -> str:
    """As TOML."""
    return "".join(
        f"{format_key([name])} = {format_value(value)}\n" for name, value in data.items()
    )


def refusal(folder: Path, text: str) -> str:
    """What is said of a file; empty when nothing is."""
    try:
        read(folder, text)
    except ConfigurationError as error:
        return str(error)
    return ""


PLACES = places(tomllib.loads(COMPLETE))[1:]


def test_a_text_in_a_wrong_place_is_not_shown_for_it_may_be_a_secret(folder: Path) -> None:
    data = tomllib.loads(COMPLETE)
    # Names of things and of files are repeated, and sinks have their own words.
    repeated = {"source", "artifact", "raw", "type", "env", "file", "credential", "quiet_hours"}
    lists = {"sensors", "events"}
    refused = 0
    for place in PLACES:
        for value in (MARKER, [MARKER, {"inner": MARKER}]):
            if (value == MARKER and place[-1] in repeated) or place[-1] in lists:
                continue
            said = refusal(folder, write(put(data, place, value)))
            assert MARKER not in said, place
            refused += bool(said)
    assert refused > 90


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(PLACES),
    st.recursive(
        st.integers() | st.booleans() | st.floats() | st.text(max_size=3) | st.just("pump"),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["env", "file", "k", "x"]), inner, max_size=2)
        ),
        max_leaves=3,
    ),
)
def test_any_value_anywhere_is_taken_or_told_with_the_line(
    folder: Path, place: tuple[str, ...], value: Any
) -> None:
    found = refusal(folder, write(put(tomllib.loads(COMPLETE), place, value)))
    for said in found.splitlines():
        # Of nothing at all there is no line.
        shown = said.removeprefix(f"{folder}/pump.toml")
        assert re.match(r", line \d+: |: There is no s", shown), said


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Everything:
    text: str = "x"
    either: bool | Literal["auto"] = "auto"
    level: Literal[4, 5] = 5
    colour: Colour = Colour.RED
    link: str | Secret = ""
    paths: tuple[Path, ...] = ()
    numbers: tuple[float, ...] = field(default=(), metadata={"most": 9})
    colours: Mapping[str, Colour] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    maybe: int | None = None
    inner: Inner = field(default_factory=Inner)
    hidden: int = field(default=0, init=False)


def taken(text: str) -> Everything:
    reader, problems = table_reader(text)
    found = reader.read(Everything, tomllib.loads(text), ("t",))
    problems.refuse()
    assert isinstance(found, Everything)
    return found


def table_reader(text: str) -> tuple[TableReader, Problems]:
    lines = {("t", *key): line for key, line in locate(text).items()}
    problems = Problems("f.toml", lines)
    return TableReader(Path("/etc"), {"HOOK": "https://x"}, problems), problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Everything()),
        ("either = false", Everything(either=False)),
        ('either = "auto"', Everything(either="auto")),
        ("level = 4", Everything(level=4)),
        ('colour = "blue"', Everything(colour=Colour.BLUE)),
        ('link = "https://y"', Everything(link="https://y")),
        ('link = { env = "HOOK" }', Everything(link=Secret("https://x"))),
        ('paths = ["a", "/b"]', Everything(paths=(Path("/etc/a"), Path("/b")))),
        ("numbers = [1, 2.5]", Everything(numbers=(1.0, 2.5))),
        ('colours = { a = "red" }', Everything(colours={"a": Colour.RED})),
        ('secrets = { a = { env = "HOOK" } }', Everything(secrets={"a": Secret("https://x")})),
        ("maybe = 3", Everything(maybe=3)),
        ("[inner]\ndepth = 3", Everything(inner=Inner(3))),
    ],
)
def test_every_type_that_a_sink_of_others_may_have_is_read(text: str, expected: Everything) -> None:
    assert taken(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "either = 1",
            "t.either is 1; it must be true or false or one of 'auto', such as either =",
        ),
        ("level = 6", "t.level is 6; it must be one of 4, 5, such as level = 5."),
        ("level = true", "t.level is true; it must be one of 4, 5, such as level = 5."),
        ('level = "5"', "t.level is a text; it must be one of 4, 5, such as level = 5."),
        ("colour = 1", "t.colour is 1; it must be one of 'red', 'blue', such as colour = \"red\"."),
        ('colour = "bleu"', "t.colour is none of 'red', 'blue'; did you mean 'blue'?"),
        ("link = 1", 't.link is 1; it must be a text or a secret such as { env = "NAME" }, such'),
        ("link = {}", 't.link must be one of { env = "LINK" }, { file ='),
        ("numbers = [1, 10]", "t.numbers is 10; it must be at most 9."),
        ('colours = { a = "green" }', "t.colours.a is none of 'red', 'blue'."),
        ('secrets = { a = "b" }', "t.secrets.a is a secret, which does not belong into the file"),
        ("hidden = 1", "t has no key 'hidden'; it may have text,"),
        ("depth = 1", "t has no key 'depth'; it belongs into [t.inner]."),
        (
            "\n[inner]\ndepth = 0.5",
            "t.inner.depth is 0.5; it must be a whole number, such as depth",
        ),
    ],
)
def test_every_type_is_refused_with_what_it_should_be(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        taken(text)
    line = text.count("\n") + 1
    assert str(error.value).startswith(f"f.toml, line {line}: {said}")


def test_a_type_that_no_configuration_has_is_its_authors_fault() -> None:
    @dataclass
    class Odd:
        numbers: list[int]

    with pytest.raises(ConfigurationError, match=r"'numbers' of .*Odd is of the type .*author"):
        fields_of(Odd)

    @dataclass
    class Unknown:
        number: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"options of .*Unknown cannot be told .*author"):
        fields_of(Unknown)


def test_a_dataclass_that_fails_is_told_and_named() -> None:
    @dataclass
    class Grumpy:
        low: int = 1
        high: int = 2
        broken: bool = False

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ConfigurationError("The 'high' one is below the 'low' one.")
            if self.broken:
                raise ZeroDivisionError("nothing to share")

    for text, said in (
        ("low = 3\nhigh = 2", "f.toml, line 2: t: The 'high' one is below the 'low' one."),
        ("high = 0", "f.toml, line 1: t: The 'high' one is below the 'low' one."),
        ("broken = true", "f.toml: t: ZeroDivisionError: nothing to share."),
    ):
        reader, problems = table_reader(text)
        assert reader.read(Grumpy, tomllib.loads(text), ("t",)) is None
        with pytest.raises(ConfigurationError) as error:
            problems.refuse()
        assert str(error.value) == said


def test_a_file_that_may_not_be_looked_at_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> bool:  # root may look anywhere, so it cannot happen to it
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert mistakes(folder, MINIMAL) == [
        f"line 4: sensors.pump.artifact names {folder}/pump.tflite, which cannot be looked at: "
        "Permission denied."
    ]


@pytest.mark.parametrize("kind", SINKS)
def test_sinks_have_options_that_are_explained_and_none_twice(kind: str) -> None:
    common, own, _ = sink_fields(kind)
    assert {each.name for each in common}.isdisjoint(each.name for each in own)
    for each in own:
        assert each.help.endswith("."), each.name
        if (each.required or each.default is None) and not each.secret:
            assert "example" in each.metadata, each.name


def test_a_secret_is_never_printed() -> None:
    secret = Secret(MARKER)
    source = SourceSettings(f"mqtt://pi:{MARKER}@host/t")
    shown = f"{secret} {secret!r} {[secret]} {DashboardSettings(token=secret)} {source}"
    assert MARKER not in shown
    assert shown.count("Secret('***')") == 4
    assert (copy.deepcopy(secret), copy.copy(secret)) == (secret, secret)
    assert secret == Secret(MARKER) != Secret(MARKER + "x")
    assert len({secret, Secret(MARKER)}) == 1
    assert secret.reveal() == MARKER
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            write(secret)


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("127.8.0.1", False),
        ("::1", False),
        ("[::1]", False),
        ("localhost", False),
        ("0.0.0.0", True),  # noqa: S104
        ("::", True),
        ("", True),
        ("192.168.1.4", True),
        ("localhost.example", True),
    ],
)
def test_a_host_is_public_unless_it_is_this_computer(host: str, public: bool) -> None:
    assert DashboardSettings(host=host).public is public


def test_settings_that_do_not_come_from_a_file_are_checked_too() -> None:
    for make, said in (
        (lambda: SourceSettings("x", timeout=0), "The setting 'timeout' is 0; it must be above 0"),
        (lambda: SensorSettings(Path("x"), evidence=-1), "'evidence' is -1; it must be at least 0"),
        (lambda: DetectionSettings(k=2), "2 of the last 1 scores"),
        (lambda: MetricsSettings(port=70_000), "'port' is 70000; it must be at least 0 and at"),
        (lambda: RunSettings("x", {}, {}, save_every=float("inf")), "'save_every' is inf"),
    ):
        with pytest.raises(ConfigurationError) as error:
            make()
        assert said in str(error.value)
