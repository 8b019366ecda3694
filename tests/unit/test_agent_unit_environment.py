from __future__ import annotations

from pathlib import Path

import pytest
from agent_device import a_layout

from edgelstm_devices.agent.layout import Service
from edgelstm_devices.agent.unit_environment import manager_environment, unit_environment

UNIT = """\
[Unit]
Environment=NOT=this
[Service]
# Environment=NOT=this
Environment=A=1 "B=two words" C=
Environment=D=%i \\
  E=5
ExecStart=/bin/true
"""


@pytest.fixture
def place(tmp_path: Path) -> Service:
    return a_layout(tmp_path).service("pump")


def drop_in(place: Service, text: str, name: str = "override.conf", unit: str = "") -> None:
    path = place.unit_file.with_name(f"{unit or place.unit}.d") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_variables_are_read_as_systemd_reads_them(place: Service) -> None:
    found = unit_environment(place, UNIT)
    assert found.variables == {"A": "1", "B": "two words", "C": "", "D": "pump", "E": "5"}
    assert (found.credentials, found.unknown) == ({}, [])


def test_drop_ins_come_after_it(place: Service, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text('# of the broker\nBROKER="a b"\nA=2\n; no\n bad line\n')
    drop_in(place, f"[Service]\nEnvironmentFile={secrets}\nEnvironmentFile=-/not/there\n")
    drop_in(place, "[Service]\nEnvironment=A=7 F=6\n", "a.conf", "edgelstm@.service")
    found = unit_environment(place, UNIT).variables
    assert found["BROKER"] == "a b"
    assert (found["A"], found["F"]) == ("2", "6")  # a file counts more than Environment=


def test_of_drop_ins_with_one_name_the_services_own_counts(place: Service) -> None:
    drop_in(place, "[Service]\nEnvironment=A=template\n", unit="edgelstm@.service")
    drop_in(place, "[Service]\nEnvironment=A=own\n")
    assert unit_environment(place, UNIT).variables["A"] == "own"


def test_nothing_forgets_what_was_said(place: Service) -> None:
    drop_in(place, "[Service]\nEnvironment=\nEnvironmentFile=/not/there\nEnvironmentFile=\n")
    assert unit_environment(place, UNIT).variables == {}


def test_a_file_that_is_not_there_is_an_error_without_a_hyphen(place: Service) -> None:
    drop_in(place, "[Service]\nEnvironmentFile=/not/there\n")
    with pytest.raises(FileNotFoundError):
        unit_environment(place, UNIT)


def test_credentials_are_files_or_for_systemd_alone(place: Service) -> None:
    drop_in(place, "[Service]\nLoadCredential=key:/etc/keys/%i\n")
    found = unit_environment(place, UNIT)
    assert found.credentials == {"key": Path("/etc/keys/pump")}
    assert found.unknown == []
    drop_in(place, "[Service]\nLoadCredentialEncrypted=x:/etc/x\nLoadCredential=only-a-name\n")
    found = unit_environment(place, UNIT)
    assert found.unknown == ["LoadCredentialEncrypted", "LoadCredential"]
    assert found.credentials == {}


def test_what_systemd_gives_to_all_is_read_as_it_is_printed() -> None:
    printed = "PATH=/bin:/usr/bin\nA=a b=c\nQ=$'it\\'s\\n\\\\ \\303'\nEMPTY=\nno variable\n"
    assert manager_environment(printed) == {
        "PATH": "/bin:/usr/bin",
        "A": "a b=c",
        "Q": "it's\n\\ \xc3",
        "EMPTY": "",
    }
