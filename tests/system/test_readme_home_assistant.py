"""From a finished artifact to an entity in Home Assistant, by the README's own words.

The broker is a real one; Home Assistant is stood in for by a client that hears what it would.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import readme
from broker import LOCALHOST, PASSWORD, USER, Broker, Watcher, wait_until

TINY = Path(__file__).parents[1] / "data" / "tiny.tflite"
COMPONENTS = {"binary_sensor", "sensor"}


def section() -> str:
    text = readme.README.read_text()
    return text[text.index("### To Home Assistant") : text.index("### To anybody else")]


def sink_of_the_readme(port: int) -> str:
    """The table that the README tells to add; only where the broker is, is another place."""
    (table,) = re.findall(r"```toml\n(.*?)```", section(), re.S)
    table = textwrap.dedent(table)
    assert f'user = "{USER}"' in table
    host = 'host = "homeassistant.local"'
    assert host in table
    return table.replace(host, f'host = "{LOCALHOST}"\nport = {port}')


def recording(folder: Path) -> None:
    rows = "".join(f"{60 * i},{20 + i % 7},{-5 + i % 5}\n" for i in range(600))
    (folder / "pump.csv").write_text("time,flow,level\n" + rows)


def test_the_readme_leads_to_entities(tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path / "machine.tflite")
    recording(tmp_path)
    broker_folder = tmp_path / "broker"
    broker_folder.mkdir()
    command = "edgelstm run machine.tflite --port stdin: --any-rate --state state"
    readme.run(["/bin/sh", "-c", f"{command} --write-config machine.toml"], tmp_path)
    (variable,) = re.findall(r"`(\w+)=\.\.\. edgelstm run machine\.toml`", section())
    with Broker(broker_folder, closed=True) as broker, Watcher(broker) as home:
        with (tmp_path / "machine.toml").open("a") as file:
            file.write(sink_of_the_readme(broker.port))
        with subprocess.Popen(
            [sys.executable, "-m", "edgelstm", "run", "machine.toml"],
            cwd=tmp_path,
            env={**readme.environment(), variable: PASSWORD},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as service:
            assert service.stdin
            service.stdin.write((tmp_path / "pump.csv").read_bytes())
            service.stdin.flush()

            def entities() -> dict[str, dict[str, object]]:
                """By their names, of the device that is called after the sensor."""
                found = {}
                for topic, payload in list(home.last.items()):
                    if re.fullmatch(r"homeassistant/(\w+)/.*/config", topic):
                        config = json.loads(payload)
                        if config["device"]["name"] == "machine":
                            assert topic.split("/")[1] in COMPONENTS
                            found[str(config["name"]).lower()] = config
                return found

            named = {"alert", "sensor fault", "score", "threshold", "last reading"}
            wait_until(lambda: named <= entities().keys())
            topics = {str(entities()[name]["state_topic"]) for name in named}
            wait_until(lambda: topics <= home.last.keys())
            service.stdin.close()
            assert service.wait(20) == 0
        wait_until(lambda: b"offline" in home.last.values())
