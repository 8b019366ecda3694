from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from agent_device import UNIT, Caller, a_layout, a_spec, put

from edgelstm_devices.agent.context import AgentError
from edgelstm_devices.agent.history import append_history
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.preparing import prepare
from edgelstm_devices.agent.releases import prune, release_ids, releases, stage
from edgelstm_devices.agent.runtimes import install_runtime
from edgelstm_devices.agent.switching import claimed
from edgelstm_devices.agent.uninstalling import uninstall

RELEASE = "20261121-0530{:02}-3f2a9c1b".format


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = a_layout(tmp_path)
    prepare(Caller(), layout=layout, service="pump")
    return layout


def deploy(layout: Layout, number: int = 1, service: str = "pump") -> Path:
    """Stages a release and has it be the current one."""
    spec = a_spec(layout, number, service)
    folder = Path(stage(Caller(), layout=layout, spec=spec)["release"])
    place = layout.service(service)
    place.current.unlink(missing_ok=True)
    place.current.symlink_to(f"releases/{spec['id']}")
    entry = {"time": time.time(), "what": "deploy", "release": spec["id"], "committed": True}
    append_history(place, entry)
    return folder


def make_old(layout: Layout) -> None:
    """As if all that is there had come two days ago."""
    then = time.time() - 2 * 86_400
    for path in [*layout.store.iterdir(), *layout.runtimes.glob("*/.complete")]:
        os.utime(path, (then, then))


def test_a_release_is_its_files_its_spec_and_a_link_to_its_runtime(layout: Layout) -> None:
    spec = a_spec(layout)
    folder = Path(stage(Caller(), layout=layout, spec=spec)["release"])
    assert folder == layout.service("pump").releases / spec["id"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "pump.tflite",
        "pump.toml",
        "release.json",
        "runtime",
    ]
    assert (folder / "pump.toml").read_bytes() == b"# release 1"
    assert json.loads((folder / "release.json").read_text()) == spec
    assert not (folder / "runtime").readlink().is_absolute()
    assert (folder / "runtime").resolve() == layout.runtimes / "runtime-1"


def test_everybody_may_read_it_and_nobody_writes_to_it(layout: Layout) -> None:
    before = os.umask(0o077)
    try:
        folder = Path(stage(Caller(), layout=layout, spec=a_spec(layout))["release"])
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o555
    for name in ("pump.toml", "pump.tflite", "release.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o444


def test_to_change_a_file_of_it_would_not_change_the_store(layout: Layout) -> None:
    spec = a_spec(layout)
    folder = Path(stage(Caller(), layout=layout, spec=spec)["release"])
    stored = layout.store / spec["files"]["pump.toml"]["sha256"]
    assert not (folder / "pump.toml").samefile(stored)


def test_it_is_staged_once(layout: Layout) -> None:
    spec = a_spec(layout)
    first = stage(Caller(), layout=layout, spec=spec)
    mark = Path(first["release"], "release.json").stat()
    assert stage(Caller(), layout=layout, spec=spec) == first
    assert Path(first["release"], "release.json").stat() == mark
    with pytest.raises(AgentError, match="has another release"):
        stage(Caller(), layout=layout, spec={**spec, "by": "joe@desk"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "../../x"}, "no id of a release"),
        ({"service": "a/b"}, "no name of a service"),
        ({"files": {}}, "has no file 'pump.toml'"),
        ({"artifacts": ["gone.tflite"]}, "has no file 'gone.tflite'"),
        ({"runtime": {"id": "other"}}, "has no runtime other"),
    ],
)
def test_what_cannot_be_staged_leaves_nothing(
    layout: Layout, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AgentError, match=message):
        stage(Caller(), layout=layout, spec={**a_spec(layout), **change})
    assert list(layout.service("pump").releases.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "release.json", "runtime", ".complete", "a\nb", "", "-f"])
def test_a_file_has_the_name_of_a_file(layout: Layout, name: str) -> None:
    spec = a_spec(layout)
    spec["files"][name] = spec["files"]["pump.toml"]
    with pytest.raises(AgentError, match="no name for a file"):
        stage(Caller(), layout=layout, spec=spec)
    assert list(layout.service("pump").releases.iterdir()) == []


def test_a_file_that_was_damaged_on_the_card_is_not_deployed(layout: Layout) -> None:
    spec = a_spec(layout)
    (layout.store / spec["files"]["pump.tflite"]["sha256"]).write_bytes(b"a modem")
    with pytest.raises(AgentError, match="damaged"):
        stage(Caller(), layout=layout, spec=spec)
    assert list(layout.service("pump").releases.iterdir()) == []
    put(layout, b"a model")
    stage(Caller(), layout=layout, spec=spec)


def test_what_was_being_made_when_the_power_went_never_counts_and_goes(layout: Layout) -> None:
    spec = a_spec(layout)
    halves = [layout.service("pump").releases / f".{name}.new" for name in (spec["id"], "other")]
    for half in halves:
        half.mkdir()
        (half / "pump.toml").write_text("half")
        half.chmod(0o555)
    assert releases(Caller(), layout=layout, service="pump") == []
    stage(Caller(), layout=layout, spec=spec)
    assert release_ids(layout.service("pump")) == [spec["id"]]
    assert not any(half.exists() for half in halves)


def test_they_are_told_oldest_first(layout: Layout) -> None:
    for number in (1, 2, 3):
        deploy(layout, number)
    told = releases(Caller(), layout=layout, service="pump")
    assert [(one["id"], one["current"], one["previous"]) for one in told] == [
        (RELEASE(1), False, False),
        (RELEASE(2), False, True),
        (RELEASE(3), True, False),
    ]
    assert told[0]["runtime"] == "runtime-1"
    assert told[0]["by"] == "ann@laptop"


def test_old_releases_go_with_what_only_they_needed(layout: Layout) -> None:
    for number in (2, 4, 6, 8, 9):
        deploy(layout, number)
    make_old(layout)
    (layout.store / f"{'0' * 64}.part").touch()  # of a deployment that goes on
    removed = prune(Caller(), layout=layout, service="pump", keep=1)
    assert removed["releases"] == [RELEASE(2), RELEASE(4), RELEASE(6)]
    assert removed["runtimes"] == []  # the previous one has it
    assert removed["files"] == 6  # of each a configuration and a wheel; the model is the same
    assert release_ids(layout.service("pump")) == [RELEASE(8), RELEASE(9)]
    assert len(list(layout.store.iterdir())) == 6
    again = prune(Caller(), layout=layout, service="pump", keep=1)
    assert again == {"releases": [], "runtimes": [], "files": 0}


def test_what_runs_ran_well_or_is_named_by_a_unit_stays(layout: Layout) -> None:
    place = layout.service("pump")
    for number in (1, 2, 3):
        deploy(layout, number)
    for number in (4, 5, 6, 7):
        stage(Caller(), layout=layout, spec=a_spec(layout, number))
    for unit, number in ((place.unit_file, 4), (place.trial_unit_file, 5)):
        unit.parent.mkdir(parents=True)
        unit.write_text(UNIT.replace("@RELEASE@", str(place.release(RELEASE(number)))))
    removed = prune(Caller(), layout=layout, service="pump", keep=1)
    assert removed["releases"] == [RELEASE(1), RELEASE(6)]
    prune(Caller(), layout=layout, service="pump", keep=0)
    assert release_ids(place) == [RELEASE(2), RELEASE(3), RELEASE(4), RELEASE(5)]


def test_a_runtime_nobody_has_goes_and_one_just_made_stays(layout: Layout) -> None:
    deploy(layout, 1)
    deploy(layout, 2)
    deploy(layout, 4)
    make_old(layout)
    (layout.runtimes / "half/bin").mkdir(parents=True)
    (layout.runtimes / "new").mkdir()
    (layout.runtimes / "new/.complete").touch()
    removed = prune(Caller(), layout=layout, service="pump", keep=0)
    assert removed["runtimes"] == ["runtime-1"]
    assert sorted(path.name for path in layout.runtimes.iterdir()) == ["new", "runtime-0"]


def test_another_services_things_stay(layout: Layout) -> None:
    fan = deploy(layout, 1, "fan")
    deploy(layout, 2)
    make_old(layout)
    assert prune(Caller(), layout=layout, service="pump", keep=0)["files"] == 0
    assert (fan / "runtime/bin/python").exists()


def test_a_damaged_release_of_another_service_is_no_reason_to_fail(layout: Layout) -> None:
    damaged = deploy(layout, 1, "fan") / "release.json"
    for number in (1, 2, 4):
        deploy(layout, number)
    make_old(layout)
    damaged.chmod(0o644)
    damaged.write_text("{")
    removed = prune(Caller(), layout=layout, service="pump", keep=0)
    assert removed == {"releases": [RELEASE(1)], "runtimes": [], "files": 0}


def test_a_runtime_that_is_wanted_again_is_not_old(layout: Layout) -> None:
    runtime = a_spec(layout, 1)["runtime"]
    deploy(layout, 2)
    make_old(layout)
    assert not install_runtime(Caller(), layout=layout, runtime=runtime)["made"]
    assert prune(Caller(), layout=layout, service="pump", keep=0)["runtimes"] == []


def test_nothing_is_removed_during_a_trial(layout: Layout) -> None:
    deploy(layout, 1)
    stage(Caller(), layout=layout, spec=a_spec(layout, 2))
    with claimed(layout.service("pump")), pytest.raises(AgentError, match="is going on"):
        prune(Caller(), layout=layout, service="pump", keep=0)
    with claimed(layout.service("pump")), pytest.raises(AgentError, match="is going on"):
        uninstall(Caller(), layout=layout, service="pump")
    assert release_ids(layout.service("pump")) == [RELEASE(1), RELEASE(2)]


def test_uninstalled_nothing_is_left_but_data(layout: Layout, tmp_path: Path) -> None:
    deploy(layout, 1)
    deploy(layout, 2, "fan")
    data = tmp_path / ".local/state/edgelstm/pump"
    data.mkdir(parents=True)
    gone = uninstall(Caller(), layout=layout, service="pump")
    assert gone == {"removed": [str(layout.services / "pump")], "kept": [str(data)]}
    assert layout.names() == ["fan"]
    assert [path.name for path in layout.services.iterdir()] == ["fan"]
    (layout.root / "pyvenv.cfg").touch()  # of an installation by hand
    uninstall(Caller(), layout=layout, service="fan")
    assert [path.name for path in layout.root.iterdir()] == ["pyvenv.cfg"]
    with pytest.raises(AgentError, match="has no service pump; there are: none"):
        uninstall(Caller(), layout=layout, service="pump")
    purged = uninstall(Caller(), layout=layout, service="pump", purge=True)
    assert str(data) in purged["removed"]
    assert purged["kept"] == []
    assert not data.exists()


def test_the_last_one_takes_the_root_with_it(layout: Layout) -> None:
    deploy(layout, 1)
    uninstall(Caller(), layout=layout, service="pump")
    assert not layout.root.exists()


@pytest.mark.parametrize("name", ["devices", "trusted"])
def test_profiles_of_devices_and_keys_are_no_data_of_a_service(tmp_path: Path, name: str) -> None:
    layout = a_layout(tmp_path)
    folder = tmp_path / ".config/edgelstm" / name
    folder.mkdir(parents=True)
    deploy(layout, 1, name)
    uninstall(Caller(), layout=layout, service=name, purge=True)
    assert folder.is_dir()


@pytest.mark.parametrize("name", ["", "services", "services/pump/releases", "runtimes", "store"])
def test_root_starts_nothing_where_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    layout = Layout("system", tmp_path / "edgelstm")
    folder = layout.root / name
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(AgentError, match="may be changed by others than root"):
        prepare(Caller(), layout=layout, service="pump")


def test_a_reader_is_not_let_write(tmp_path: Path) -> None:
    layout = Layout("user", Path("/proc/edgelstm"), {"HOME": str(tmp_path)})
    with pytest.raises(AgentError, match=r"^The device has trouble with /proc/edgelstm: "):
        prepare(Caller(), layout=layout, service="pump")
