"""Public keys on a device, put there by the agent."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelstm.keys import PrivateKey, PublicKey, write_new_keys
from edgelstm.signing import TrustedKeys, sign
from edgelstm_devices.agent.context import AgentError, Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.serve import CALLS
from edgelstm_devices.agent.trust import trust, trusted_folder, trusted_keys, untrust

HERE = Context()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout("user", environ={"HOME": str(tmp_path)})


@pytest.fixture
def folder(layout: Layout) -> Path:
    return trusted_folder(layout)


def new() -> PublicKey:
    return PrivateKey.generate().public


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(layout: Layout, **keys: str) -> str:
    with pytest.raises(AgentError) as caught:
        trust(HERE, layout=layout, keys=keys)
    return str(caught.value)


def test_the_folders_are_those_that_run_reads(layout: Layout, tmp_path: Path) -> None:
    from edgelstm import signing

    assert trusted_folder(Layout("system")) == signing.TRUSTED_FOLDER
    assert trusted_folder(layout) == tmp_path / signing._OWN_FOLDER


def test_a_call_for_each() -> None:
    assert {name for name, module in CALLS.items() if module == "trust"} == {
        "trust",
        "untrust",
        "trusted_keys",
    }


def test_a_key_that_is_put_there_is_in_force(layout: Layout, folder: Path, tmp_path: Path) -> None:
    one, two = new(), new()
    before = os.umask(0o077)
    try:
        answer = trust(HERE, layout=layout, keys={"one": one.pem, "two.pub.pem": two.pem})
    finally:
        os.umask(before)
    added = ["one.pem", "two.pub.pem"]
    assert answer == {"folder": str(folder), "added": added, "present": []}
    assert names(folder) == added
    for path, mode in ((folder, 0o755), (folder.parent, 0o755), (folder / "one.pem", 0o644)):
        assert path.stat().st_mode & 0o777 == mode, path
    (ring,) = TrustedKeys.of_device(environ={"HOME": str(tmp_path)}).rings
    assert (ring.place, ring.keys) == (str(folder), (one, two))
    assert trusted_keys(HERE, layout=layout) == [
        {"file": "one.pem", "fingerprint": one.fingerprint},
        {"file": "two.pub.pem", "fingerprint": two.fingerprint},
    ]


def test_a_key_that_is_there_stays(layout: Layout, folder: Path) -> None:
    key = new()
    trust(HERE, layout=layout, keys={"one": key.pem})
    before = (folder / "one.pem").stat()
    for name in ("one", "other"):
        answer = trust(HERE, layout=layout, keys={name: key.pem.replace("\n", "\r\n")})
        assert answer == {"folder": str(folder), "added": [], "present": ["one.pem"]}
    assert (folder / "one.pem").stat() == before
    answer = trust(HERE, layout=layout, keys={"a": (more := new().pem), "b": more})
    assert (answer["added"], answer["present"]) == (["a.pem"], ["a.pem"])


def test_another_key_does_not_take_its_name(layout: Layout, folder: Path) -> None:
    key = new()
    trust(HERE, layout=layout, keys={"one": key.pem})
    message = refusal(layout, two=new().pem, one=new().pem)
    assert message.startswith(f"{folder / 'one.pem'} is another key, which is trusted already")
    assert names(folder) == ["one.pem"]
    assert PublicKey.read(folder / "one.pem") == key


def test_what_is_no_public_key_is_not_put_there(
    layout: Layout, folder: Path, tmp_path: Path
) -> None:
    write_new_keys(tmp_path / "key.pem")
    pem = new().pem
    body = pem.splitlines()[1]
    for text, says in (
        ((tmp_path / "key.pem").read_text(), "is a private key, which no device may have"),
        (pem + (tmp_path / "key.pem").read_text(), "is a private key"),
        ("", "is not the PEM file of one Ed25519 public key"),
        (pem * 2, "is not the PEM file"),
        (pem.replace(body, "MFkw" + body[4:]), "is not the PEM file"),
        (pem.replace(body, body[:-4]), "is not the PEM file"),
        (pem.replace(body, "?" + body[1:]), "is not the PEM file"),
    ):
        assert says in refusal(layout, good=pem, bad=text)
    for name in ("../up", "", ".hidden", "a b", "x\n", "x" * 70):
        assert "is no name of a key" in refusal(layout, **{name: pem})
    assert not folder.exists()


def test_keys_are_taken_away(layout: Layout, folder: Path) -> None:
    assert untrust(HERE, layout=layout, names=["one"]) == {"removed": []}
    trust(HERE, layout=layout, keys={"one": new().pem, "two": new().pem})
    answer = untrust(HERE, layout=layout, names=["one", "two.pem", "three"])
    assert answer == {"removed": ["one.pem", "two.pem"]}
    assert trusted_keys(HERE, layout=layout) == []
    with pytest.raises(AgentError, match="no name of a key"):
        untrust(HERE, layout=layout, names=["../../x"])


def test_a_file_that_is_no_key_is_told_and_can_be_removed(layout: Layout, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "bad.pem").write_bytes(b"\xff")
    assert trusted_keys(HERE, layout=layout) == [{"file": "bad.pem", "fingerprint": ""}]
    assert str(folder / "bad.pem") in refusal(layout, one=new().pem)
    untrust(HERE, layout=layout, names=["bad"])
    trust(HERE, layout=layout, keys={"one": new().pem})


def test_a_full_disk_leaves_no_half_key(
    layout: Layout, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edgelstm_devices.agent.trust.os.fsync", full)
    assert refusal(layout, one=new().pem) == (
        f"No key can be put into {folder}: No space left on device."
    )
    assert names(folder) == []


def test_a_folder_that_is_none(layout: Layout, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("")
    assert "cannot be read: Not a directory" in refusal(layout, one=new().pem)
    with pytest.raises(AgentError, match="cannot be removed"):
        untrust(HERE, layout=layout, names=["one"])


# What runs already


@pytest.fixture
def runs(layout: Layout, tiny_path: Path) -> Callable[..., Path]:
    """Lets a service run an artifact that is signed with a key, or with none."""

    def runs(name: str, key: PrivateKey | None, artifact: str = "pump.tflite") -> Path:
        service = layout.service(name)
        folder = service.release("1")
        folder.mkdir(parents=True, exist_ok=True)
        data = tiny_path.read_bytes()
        (folder / artifact).write_bytes(sign(data, key, artifact) if key else data)
        (folder / "release.json").write_text(json.dumps({"artifacts": [artifact]}))
        if not service.current.is_symlink():
            service.current.symlink_to("releases/1")
        return folder

    return runs


def test_no_key_keeps_what_runs_from_starting_again(
    layout: Layout, folder: Path, runs: Callable[..., Path]
) -> None:
    ours, other = PrivateKey.generate(), PrivateKey.generate()
    runs("fan", ours)
    runs("pump", None, "flow")
    message = refusal(layout, ours=ours.public.pem)
    assert message.startswith("pump runs flow, which is not signed with a key that is trusted then")
    runs("pump", other, "flow")
    assert "pump runs flow" in refusal(layout, ours=ours.public.pem)
    assert not folder.exists()
    trust(HERE, layout=layout, keys={"ours": ours.public.pem, "other": other.public.pem})
    trust(HERE, layout=layout, keys={"third": new().pem})  # it takes nothing away
    assert names(folder) == ["other.pem", "ours.pem", "third.pem"]


def test_a_release_that_is_not_in_force_does_not_matter(
    layout: Layout, runs: Callable[..., Path]
) -> None:
    runs("pump", None)
    layout.service("pump").current.unlink()
    trust(HERE, layout=layout, keys={"one": new().pem})


def test_a_release_that_cannot_be_told_is_not_put_at_risk(
    layout: Layout, folder: Path, runs: Callable[..., Path]
) -> None:
    key = PrivateKey.generate()
    for text in ("", "[]", "{}", '{"artifacts": 1}'):
        (runs("pump", key) / "release.json").write_text(text)
        assert "What pump runs cannot be told" in refusal(layout, one=key.public.pem)
    (runs("pump", key) / "pump.tflite").write_bytes(b"damaged")
    assert "pump runs pump.tflite" in refusal(layout, one=key.public.pem)
    assert not folder.exists()
