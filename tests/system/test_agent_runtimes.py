from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from agent_child import a_layout
from agent_rig import OWN_WHEEL, PIP_WHEEL, a_runtime, a_wheel, own_wheel, pip_wheel

from edgelstm_devices.agent.context import AgentError, Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.runtimes import install_runtime

PROGRAM = "import tiny_thing\ndef main():\n    print(tiny_thing.VALUE)\n"
THING_WHEEL = "tiny_thing-1.0-py3-none-any.whl"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def wheels() -> dict[str, bytes]:
    return {
        PIP_WHEEL: pip_wheel(),
        OWN_WHEEL: own_wheel(PROGRAM),
        THING_WHEEL: a_wheel("tiny_thing", "1.0", {"tiny_thing.py": b"VALUE = 'thing'\n"}),
    }


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return a_layout(tmp_path)


def install(layout: Layout, runtime: dict[str, Any], context: Context | None = None) -> Any:
    return install_runtime(context or Context(), layout=layout, runtime=runtime)


def test_it_is_made_once_and_everybody_may_run_it(layout: Layout, wheels: dict[str, bytes]) -> None:
    requirements = ["edgelstm==9.0", "tiny_thing==1.0"]
    runtime = a_runtime(layout, wheels, PYTHON, requirements=requirements)
    folder = layout.runtimes / runtime["id"]
    before = os.umask(0o077)
    try:
        assert install(layout, runtime) == {"id": runtime["id"], "made": True}
    finally:
        os.umask(before)
    program = folder / "bin/edgelstm"
    assert subprocess.check_output([program], text=True) == "thing\n"
    made = program.stat()
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        assert mode & 0o044 == 0o044, path
        assert path.is_symlink() or not mode & 0o022, path
        assert not path.is_dir() or mode & 0o011 == 0o011, path
    compiled = list(folder.glob("lib/*/site-packages/__pycache__/tiny_thing.*.pyc"))
    assert len(compiled) == 1  # the service's user could not write it
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [
        ".complete"
    ]
    assert install(layout, runtime) == {"id": runtime["id"], "made": False}
    assert program.stat() == made


def test_one_that_is_half_made_or_lost_its_python_is_made_anew(
    layout: Layout, wheels: dict[str, bytes]
) -> None:
    runtime = a_runtime(layout, wheels, PYTHON)
    folder = layout.runtimes / runtime["id"]
    for name in (runtime["id"], "another"):
        (layout.runtimes / name / "bin").mkdir(parents=True)
        (layout.runtimes / name / "bin/edgelstm").touch()
    assert install(layout, runtime)["made"]
    assert [path.name for path in layout.runtimes.iterdir()] == [runtime["id"]]
    for name in ("python", "python3", f"python{PYTHON}"):  # the system was upgraded
        link = folder / "bin" / name
        if str(link.readlink()).startswith("/"):
            link.unlink()
            link.symlink_to("/usr/bin/python3.5")
    assert install(layout, runtime)["made"]
    assert subprocess.check_output([folder / "bin/edgelstm"], text=True) == "thing\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "3.5"}, "has no Python 3.5 .*: sudo apt-get install python3.5 python3.5-venv$"),
        ({"requirements": ["numpy==2.4.6"]}, "version that satisfies the requirement numpy==2.4.6"),
        ({"requirements": ["--index-url=x"]}, "'--index-url=x' is no package with its version"),
        ({"installer": "pip-1.whl"}, "came without pip"),
        ({"id": "../x"}, "'../x' is no id of a runtime"),
    ],
)
def test_what_cannot_be_made_is_said_and_leaves_nothing(
    layout: Layout, wheels: dict[str, bytes], change: dict[str, Any], message: str
) -> None:
    runtime = {**a_runtime(layout, wheels, PYTHON), **change}
    with pytest.raises(AgentError, match=message) as caught:
        install(layout, runtime)
    assert "\n" not in str(caught.value)
    assert not layout.runtimes.is_dir() or list(layout.runtimes.iterdir()) == []


def test_wheels_of_another_device_and_without_edgelstm_are_refused(
    layout: Layout, wheels: dict[str, bytes]
) -> None:
    foreign = "tiny_thing-1.0-cp311-cp311-manylinux_2_28_s390x.whl"
    runtime = a_runtime(layout, {**wheels, foreign: wheels[THING_WHEEL]}, PYTHON)
    with pytest.raises(AgentError, match=f"{foreign} is not a supported wheel"):
        install(layout, runtime)
    without = {name: wheels[name] for name in (PIP_WHEEL, THING_WHEEL)}
    runtime = a_runtime(layout, without, PYTHON, requirements=[])
    with pytest.raises(AgentError, match="has no edgelstm in it"):
        install(layout, runtime)
    assert list(layout.runtimes.iterdir()) == []


def test_online_the_devices_own_settings_say_where_packages_are(
    layout: Layout, wheels: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    (index / THING_WHEEL).write_bytes(wheels[THING_WHEEL])
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    sent = {name: wheels[name] for name in (PIP_WHEEL, OWN_WHEEL)}
    requirements = ["tiny_thing==1.0"]
    runtime = a_runtime(layout, sent, PYTHON, requirements=requirements, offline=False)
    with pytest.raises(AgentError, match="deploy with --offline if it has no internet"):
        install(layout, runtime)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert install(layout, runtime)["made"]
    # Sent as a whole, nothing of that counts.
    with pytest.raises(AgentError, match="satisfies the requirement tiny_thing==1"):
        install(layout, {**runtime, "id": "offline", "offline": True})


def test_whoever_goes_away_leaves_nothing(layout: Layout, wheels: dict[str, bytes]) -> None:
    gone = threading.Event()

    class Caller(Context):
        def event(self, **_fields: Any) -> None:
            gone.set()

        def alive(self) -> bool:
            return not gone.is_set()

    # A pip that would go on forever, and has a child that would.
    sleep = b"import subprocess, sys\nsubprocess.run([sys.executable, '-c', '%s'])\n"
    forever = sleep % b"import time; time.sleep(3600)"
    hanging = {**wheels, PIP_WHEEL: a_wheel("pip", "0", {"pip/__main__.py": forever})}
    runtime = a_runtime(layout, hanging, PYTHON)
    with pytest.raises(AgentError, match="went away"):
        install(layout, runtime, Caller())
    assert list(layout.runtimes.iterdir()) == []


def test_a_second_deployment_waits_for_the_pip_of_one_that_died(
    layout: Layout, wheels: dict[str, bytes]
) -> None:
    mark = layout.root / "mark"
    slow = f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(3600)\n"
    hanging = {**wheels, PIP_WHEEL: a_wheel("pip", "0", {"pip/__main__.py": slow.encode()})}
    runtime = a_runtime(layout, hanging, PYTHON, id="slow")
    process = os.fork()
    if process == 0:
        try:
            install(layout, runtime)
        finally:
            os._exit(1)
    wait_for(mark.exists)
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    os.kill(process, 9)
    os.waitpid(process, 0)
    events: list[Any] = []

    class Caller(Context):
        def event(self, **fields: Any) -> None:
            events.append(fields["what"])
            while children:
                os.kill(int(children.pop()), 9)

    runtime = a_runtime(layout, wheels, PYTHON)
    assert install(layout, runtime, Caller())["made"]
    assert events[0] == "waiting"
    assert [path.name for path in layout.runtimes.iterdir()] == [runtime["id"]]


def wait_for(condition: Any) -> None:
    stop = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.02)
