"""What disturbs a service: a full disk, a clock that jumps, receivers and pages that misbehave.

Nothing here is a test; see `test_service_disturbed.py` and `benchmarks/disturbances.py`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from service_rig import ANOMALY, DATA, Device, Service, make_artifact, until

from edgelstm.outbox import FILE

_CLOCK_SOURCE = DATA / "jumping_clock.c"

HEALTHY = ("file", "hook")
"""Sinks that are to get everything; "slow" and "late" do so once they may."""

_STORED = """
import json, sys
from pathlib import Path
from edgelstm.outbox import Archive
with Archive(Path(sys.argv[1])) as archive:
    alerts = reversed(archive.alerts(None, sensor="pump"))
    notices = [notice for alert in alerts for notice in archive.history(alert.alert_id)]
print(json.dumps([notice.id for notice in notices if notice.event != "updated"]))
"""

_CONFIGURATION = """
name = "gate"
state_directory = "{folder}/state"
save_every = 1.0
[sources.line]
port = "{port}"
[sensors.pump]
artifact = "pump.tflite"
[sensors.pump.detection]
false_alarms_per_day = 100
threshold = "static-quantile"
release = 0.5
[sinks.slow]
type = "webhook"
url = "{slow}"
timeout = 600
[sinks.file]
type = "jsonl"
path = "alerts.jsonl"
[sinks.hook]
type = "webhook"
url = "{hook}"
[sinks.late]
type = "jsonl"
path = "state/late.jsonl"
[outbox]
max_megabytes = {most}
[metrics]
port = 0
[dashboard]
port = 0
"""


class Receiver:
    """A web server that takes notices, refuses them for a while, or never answers."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        """Notices that it answered with 200, in order."""
        self.failures = 0
        """Notices that it answered with 500."""
        self._to_fail = self._retry_after = 0
        self._answers = threading.Event()
        self._answers.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(json.loads(body))
                with suppress(OSError):  # who asked may have gone
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    if status != 200 and receiver._retry_after:
                        self.send_header("Retry-After", str(receiver._retry_after))
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                """Is silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}/alerts"

    def fail(self, times: int, retry_after: int = 0) -> None:
        """Answers the next requests with 500, and asks for so many seconds of patience."""
        self._to_fail, self._retry_after = times, retry_after

    def hang(self) -> None:
        """Answers nothing from now on."""
        self._answers.clear()

    def answer(self) -> None:
        """Answers again, also what has waited."""
        self._answers.set()

    def close(self) -> None:
        """Ends it."""
        self.answer()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, notice: dict[str, Any]) -> int:
        self._answers.wait()
        if self._to_fail:
            self._to_fail -= 1
            self.failures += 1
            return 500
        self.taken.append(notice)
        return 200


class MutePage:
    """A client of the dashboard that asks for everything and never reads.

    Args:
        url: of the dashboard.
    """

    def __init__(self, url: str) -> None:
        host = urlsplit(url).netloc
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        name, _, port = host.partition(":")
        self._socket.connect((name, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /stream HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        wish = json.dumps({"subscribe": "pump", "epoch": "", "since": 0}).encode()
        # A text in one frame, with a mask of zeros.
        self._socket.sendall(bytes([0x81, 0x80 | len(wish), 0, 0, 0, 0]) + wish)

    def close(self) -> None:
        """Goes away."""
        self._socket.close()


class Disturbed:
    """A service on a small disk and a clock of its own, with receivers, pages and a device.

    Args:
        folder: for all of it; must be empty.
        disk_megabytes: what the state directory can take; the outbox is let have 2 MB less.
    """

    def __init__(self, folder: Path, disk_megabytes: int = 6) -> None:
        self.folder = folder
        self._state = folder / "state"
        self._state.mkdir()
        self._clock = folder / "clock"
        self.set_clock(0)
        library = _jumping_clock(folder)
        make_artifact(folder / "pump.tflite")
        with ExitStack() as stack:
            self.device = stack.enter_context(Device())
            self.hook, self.slow = Receiver(), Receiver()
            stack.callback(self.hook.close)
            stack.callback(self.slow.close)
            text = _CONFIGURATION.format(
                folder=folder,
                port=self.device.url,
                hook=self.hook.url,
                slow=self.slow.url,
                most=disk_megabytes - 2,
            )
            (folder / "x.toml").write_text(text)
            self.service = stack.enter_context(
                Service(
                    folder,
                    before=_on_a_small_disk(self._state, disk_megabytes),
                    environ={"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(self._clock)},
                )
            )
            self.service.started()
            # In the place where the service sees its disk; nobody else does.
            inside = Path(f"/proc/{self.service.process.pid}/root")
            self.state = inside / self._state.relative_to("/")
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # What disturbs

    def set_clock(self, seconds: int) -> None:
        """Sets the service's clock to so many seconds beside the true time."""
        with self._clock.open("r+b" if self._clock.exists() else "w+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    def fill_disk(self) -> None:
        """Leaves no byte free."""
        with (self.state / "filler").open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free_disk(self) -> None:
        """Gives the room back."""
        (self.state / "filler").unlink(missing_ok=True)

    def mute_pages(self, number: int) -> Sequence[MutePage]:
        """Opens pages that never read."""
        return [MutePage(self.service.urls[1]) for _ in range(number)]

    # What is seen

    def alert(self) -> None:
        """Lets the machine misbehave once; the healthy sinks hear of its beginning and its end."""
        before = len(self.service.notices())
        self.device.misbehave(ANOMALY)
        until(lambda: self.ends(self.service.notices()[before:]) > 0, "an alert in the file")

    @staticmethod
    def of_the_pump(notices: Sequence[dict[str, Any]]) -> list[str]:
        """The ids of notices about the sensor, in order, each when it first came."""
        return list(dict.fromkeys(n["id"] for n in notices if n["sensor"] == "pump"))

    @staticmethod
    def ends(notices: Sequence[dict[str, Any]]) -> int:
        """How many of the sensor's alerts have ended."""
        return len({n["id"] for n in notices if (n["sensor"], n["event"]) == ("pump", "closed")})

    def stored(self) -> list[str]:
        """The ids of the sensor's notices that the outbox has on its disk, in order."""
        rights = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        inside = ["nsenter", f"--target={self.service.process.pid}", "--mount", *rights]
        command = [*inside, sys.executable, "-c", _STORED, str(self._state / FILE)]
        stored: list[str] = json.loads(subprocess.check_output(command))
        return stored

    def late(self) -> list[dict[str, Any]]:
        """What the sink wrote whose file is on the small disk."""
        path = self.state / "late.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def until_all_arrived(self, *, slow: bool = False) -> None:
        """Waits until what the outbox has is where it belongs, and nothing waits there."""
        stored: list[str] = []

        def arrived() -> bool:
            figures = self.service.figures()
            names = [*HEALTHY, "late", *(["slow"] if slow else [])]
            return all(figures[f"edgelstm_sink_pending {name}"] == 0 for name in names)

        until(arrived, "nothing that waits", 30)
        until(lambda: self.service.figures()["edgelstm_outbox_unsaved"] == 0, "all on the disk")
        stored = self.stored()
        got: dict[str, Callable[[], Sequence[dict[str, Any]]]] = {
            "file": self.service.notices,
            "hook": lambda: self.hook.taken,
            "late": self.late,
        }
        if slow:
            got["slow"] = lambda: self.slow.taken
        for name, notices in got.items():
            assert self.of_the_pump(notices()) == stored, name

    def until_no_problem(self, what: str) -> None:
        """Waits until that is over."""
        until(lambda: what not in " ".join(self.service.health()["problems"]), f"no {what}", 30)


def _jumping_clock(folder: Path) -> Path:
    library = folder / "jumping_clock.so"
    options = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror"]
    command = ["gcc", *options, str(_CLOCK_SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return library


def _on_a_small_disk(folder: Path, megabytes: int) -> list[str]:
    """Runs what follows where `folder` is a disk of its own, which goes with the process."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$1" && shift && exec "$@"'
    return ["unshare", *rights, "--mount", "sh", "-c", mount, "sh", str(folder)]
