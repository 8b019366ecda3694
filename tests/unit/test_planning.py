from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_preflight import a_port, pi4, python

from edgelstm.errors import ArtifactError, ConfigurationError, DeploymentError
from edgelstm.keys import PrivateKey
from edgelstm.signing import sign
from edgelstm_devices.pins import locked
from edgelstm_devices.planning import Choice, ReleasePlan, plan_release
from edgelstm_devices.shipment import Options
from edgelstm_devices.wheel_names import Target

TINY = Path(__file__).parents[1] / "data/tiny.tflite"
NOW = datetime(2026, 11, 21, 5, 30, 12, tzinfo=UTC)
ARDUINO = "serial:by-id/usb-Arduino_Uno_75830-if00"
PIP = f"{str(locked('installer')[0]).replace('==', '-')}-py3-none-any.whl"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is when everything was fetched before: so nothing asks pip."""
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / "wheels" / Target("3.11", "aarch64", "2.36").key
    folder.mkdir(parents=True)
    pins = locked("ai-edge-litert")
    names = [f"{pin.name.replace('-', '_')}-{pin.version}-py3-none-any.whl" for pin in pins]
    for name in (PIP, *names):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("x.py", name)
    return cache


def plan(
    cache: Path, facts: dict[str, Any] | None = None, source: Path = TINY, **choice: Any
) -> ReleasePlan:
    """What a Raspberry Pi 4 gets; `facts` are in the place of its own."""
    chosen = Choice(source, **{"service": "pump", "offline": True, **choice})
    return plan_release({**pi4(), **(facts or {})}, chosen, cache=cache, now=NOW, by="ann@laptop")


def problem(made: ReleasePlan) -> tuple[str, str, str]:
    """The only one."""
    assert made.bundle is None
    [found] = made.problems
    with pytest.raises(DeploymentError, match="The device is not fit: ") as caught:
        assert made.ready
    assert found.what in str(caught.value)
    return found.name, found.what, found.mend


def settings(made: ReleasePlan, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", made.ready.spec.unit, re.M)


def test_a_device_of_which_nothing_is_wrong(cache: Path) -> None:
    made = plan(cache)
    assert made.problems == []
    assert made.profile
    assert made.profile.name == "pi4"
    assert made.runtime
    assert made.runtime.package == "ai-edge-litert"
    assert made.shipment
    assert made.shipment.ports == (ARDUINO,)
    assert made.models() == [TINY]
    assert made.groups == ("dialout",)
    spec = made.ready.spec
    assert (spec.service, spec.by, spec.expect_readings) == ("pump", "ann@laptop", True)
    assert (spec.runtime.python, spec.runtime.architecture) == ("3.11", "aarch64")
    assert f'port = "{ARDUINO}"' in made.shipment.text
    assert settings(made, "DeviceAllow") == ["char-ttyACM rw"]


def test_a_service_is_called_as_its_source_unless_told() -> None:
    assert Choice(Path("models/Pump 3.tflite")).service == "Pump-3"
    assert Choice(Path("field.toml"), service="hall").service == "hall"


def test_the_same_is_the_same_release_whenever_it_is_planned(cache: Path) -> None:
    first, second = plan(cache).ready.spec, plan(cache, {"time": pi4()["time"] + 0.1}).ready.spec
    assert first == second


@pytest.mark.parametrize(
    ("port", "entries", "classes", "groups"),
    [
        ("/dev/ttyUSB0", [a_port("/dev/ttyUSB0", **{"class": "ttyUSB"})], ["ttyUSB"], []),
        (
            "/dev/pump",
            [a_port("/dev/ttyUSB3", names=["/dev/pump"], **{"class": "ttyUSB"})],
            ["ttyUSB"],
            [],
        ),
        ("/dev/ttyACM0", [a_port("/dev/ttyACM0", **{"class": None})], ["ttyACM"], []),
        (
            "/dev/ttyACM0",
            [a_port("/dev/ttyACM0", group="plugdev", mode="0666")],
            ["ttyACM"],
            ["plugdev"],
        ),
        ("/dev/ttyACM0", [a_port("/dev/ttyACM0", group="root", mode="0666")], ["ttyACM"], []),
        ("socket://10.0.0.7:7000", [], [], []),
    ],
)
def test_the_unit_may_open_the_kind_of_port_and_no_other(
    cache: Path, port: str, entries: list[Any], classes: list[str], groups: list[str]
) -> None:
    made = plan(cache, {"ports": entries}, options=Options(port))
    assert settings(made, "DeviceAllow") == [f"char-{one} rw" for one in classes]
    assert made.groups == ("dialout", *groups)


def test_several_sources_of_a_configuration(cache: Path, tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path / "pump.tflite")
    (tmp_path / "field.toml").write_text(
        '[sources.a]\nport = "/dev/ttyUSB0"\n[sources.b]\nport = "/dev/serial0"\n'
        '[sources.c]\nport = "socket://10.0.0.7:7000"\n'
        + "".join(
            f'[sensors.{name}]\nsource = "{name}"\nartifact = "pump.tflite"\n' for name in "abc"
        )
    )
    ports = [a_port("/dev/ttyUSB0", **{"class": "ttyUSB"}), *pi4()["ports"]]
    made = plan(cache, {"ports": ports}, tmp_path / "field.toml")
    assert settings(made, "DeviceAllow") == ["char-ttyUSB rw", "char-ttyAMA rw"]
    ports = ports[1:]
    name, what, _ = problem(plan(cache, {"ports": ports}, tmp_path / "field.toml"))
    assert (name, what[:15]) == ("/dev/ttyUSB0", "it is not there")


def test_an_edge_tpu(cache: Path) -> None:
    made = plan(
        cache,
        {"coral": {"usb": 1, "pci": 0, "library": "16.0"}},
        options=Options(delegate="edgetpu"),
        profile="coral-usb",
    )
    assert made.problems == []
    assert made.groups == ("dialout", "plugdev")
    assert settings(made, "DeviceAllow")[1:] == ["char-usb_device rw", "char-apex rw"]


def test_no_port_for_an_artifact(cache: Path) -> None:
    name, what, mend = problem(plan(cache, {"ports": []}))
    assert name == "serial port"
    assert what.startswith("No serial device is plugged into its USB; plug it in, or give --port")
    assert mend == "ls -l /dev/serial/by-id"


def test_which_of_several_ports_is_for_the_user_to_say(cache: Path) -> None:
    ports = [a_port("/dev/ttyACM0"), a_port("/dev/ttyUSB0", **{"class": "ttyUSB"})]
    _, what, _ = problem(plan(cache, {"ports": ports}))
    assert what == (
        "2 serial devices are plugged in; choose one with --port: /dev/ttyACM0; /dev/ttyUSB0."
    )
    made = plan(cache, {"ports": ports}, options=Options("/dev/ttyUSB0"))
    assert settings(made, "DeviceAllow") == ["char-ttyUSB rw"]


def test_ports_that_could_not_be_found_out_are_not_said_to_be_none(cache: Path) -> None:
    _, what, _ = problem(plan(cache, {"ports": None}))
    assert what == "which there are could not be found out in time; try again, or give --port."
    assert plan(cache, {"ports": None}, options=Options("/dev/ttyACM0")).problems == []


def test_a_port_that_is_not_there(cache: Path) -> None:
    name, what, _ = problem(plan(cache, options=Options("/dev/ttyUSB9")))
    assert name == "/dev/ttyUSB9"
    assert what.startswith("it is not there; ports: /dev/ttyACM0 (Uno)")
    # Of a device that comes later.
    made = plan(cache, options=Options("/dev/ttyUSB9"), expect_readings=False)
    assert not made.problems
    assert not made.ready.spec.expect_readings


NEEDED = {"pythons", "systemd", "ports"}


@pytest.mark.parametrize("fact", sorted(NEEDED))
def test_what_has_to_be_known(cache: Path, fact: str) -> None:
    problem(plan(cache, {fact: None}))


def test_what_need_not_be_known(cache: Path) -> None:
    made = plan(cache, dict.fromkeys(pi4().keys() - NEEDED - {"time", "machine"}))
    assert made.problems == []
    assert made.ready


def test_a_device_that_nothing_is_known_of() -> None:
    facts: dict[str, Any] = dict.fromkeys(pi4())
    facts |= {"time": pi4()["time"], "machine": "riscv64"}
    made = plan_release(facts, Choice(TINY), cache=Path("/nowhere"), now=NOW, by="")
    assert made.profile is None
    assert made.problems
    with pytest.raises(DeploymentError, match="architecture: riscv64"):
        assert made.ready


def test_offline_all_wheels_are_sent(cache: Path) -> None:
    offline, online = (plan(cache, offline=flag).ready.spec.runtime for flag in (True, False))
    assert (offline.offline, online.offline) == (True, False)
    assert online.wheels.keys() < offline.wheels.keys()
    assert PIP in online.wheels


def test_no_internet_matters_only_online(cache: Path) -> None:
    facts = {"index": {"host": "pypi.org", "reachable": False, "reason": "no route"}}
    assert plan(cache, facts).problems == []
    _, what, mend = problem(plan(cache, facts, offline=False))
    assert "pypi.org" in what
    assert "--offline" in mend


def test_the_mode_is_that_of_the_unit(cache: Path) -> None:
    assert "WantedBy=multi-user.target" in plan(cache).ready.spec.unit
    unit = plan(cache, {"mode": "user"}, mode="user").ready.spec.unit
    assert "WantedBy=default.target" in unit
    assert "User=" not in unit
    assert "systemctl --user edit edgelstm@pump" in unit


def test_how_often_it_is_restarted_depends_on_systemd(cache: Path) -> None:
    systemd = pi4()["systemd"]
    made = [plan(cache, {"systemd": {**systemd, "version": n}}) for n in (252, 257)]
    assert [settings(one, "RestartSteps") for one in made] == [[], ["6"]]


def test_a_device_that_wants_signatures(cache: Path, tmp_path: Path) -> None:
    facts = {"trusted": ["/etc/edgelstm/trusted/plant.pem"]}
    name, what, mend = problem(plan(cache, facts))
    assert name == "signatures"
    assert "nobody signed tiny.tflite" in what
    assert mend.startswith("edgelstm sign tiny.tflite --key")
    signed = tmp_path / "tiny.tflite"
    signed.write_bytes(sign(TINY.read_bytes(), PrivateKey.generate(), signed))
    assert plan(cache, facts, signed).problems == []
    damaged = bytearray(signed.read_bytes())
    damaged[-30] ^= 255
    signed.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="damaged"):
        plan(cache, facts, signed)


def test_a_profile_that_was_asked_for(cache: Path) -> None:
    made = plan(cache, {"model": "Raspberry Pi 5 Model B Rev 1.0"})
    assert made.profile
    assert made.profile.name == "pi5"
    made = plan(cache, {"model": "Raspberry Pi 5 Model B Rev 1.0"}, profile="aarch64")
    assert made.profile
    assert made.profile.name == "aarch64"
    with pytest.raises(ConfigurationError, match="No device is called 'pi9'; the known ones are"):
        plan(cache, profile="pi9")


def test_a_python_that_no_runtime_is_for(cache: Path) -> None:
    old = python("3.9.2", executable="/usr/bin/python3.9")
    name, what, mend = problem(plan(cache, {"pythons": [old], "python": old}))
    assert name == "python"
    assert "3.9" in what
    assert mend


def test_a_service_that_cannot_be_called_so() -> None:
    for name in ("a b", "../x", "-x", "x" * 65):
        with pytest.raises(ConfigurationError, match="A service cannot be called"):
            Choice(TINY, service=name)


def test_a_source_that_is_none(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "pump.tflite").write_text("hello")
    with pytest.raises(ArtifactError, match="is not an edgelstm artifact"):
        plan(cache, source=tmp_path / "pump.tflite")
    (tmp_path / "pump.toml").write_text("[sources")
    with pytest.raises(ConfigurationError, match=r"pump\.toml"):
        plan(cache, source=tmp_path / "pump.toml")
    with pytest.raises(ConfigurationError, match="says itself how its readings come"):
        plan(cache, source=tmp_path / "pump.toml", options=replace(Options(), baud_rate=9600))
