"""Alerts to a program: it gets a notice on its standard input and in its environment."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from edgelstm.errors import ConfigurationError, RefusedNoticeError, SinkError
from edgelstm.notice import Notice
from edgelstm.secret import Secret
from edgelstm.sinks import Sink, SinkContext
from edgelstm.sinks.one_line import one_line
from edgelstm.sinks.templates import dump, fields

log = logging.getLogger(__name__)

REFUSED = os.EX_DATAERR
"""The exit code, 65, of a program that will never take this notice."""

_OUTPUT_BYTES = 4096  # that are kept; the rest is read and forgotten
_SHOWN = 200
_GRACE_S = 2.0  # from SIGTERM to SIGKILL
_TICK_S = 0.02
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Not the whole environment: the service's has passwords, and sockets of systemd.
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True)
class CommandConfig:
    """Options of the sink "command".

    Raises:
        ConfigurationError: an option makes no sense.
    """

    argv: tuple[str, ...] = field(
        metadata={
            "help": "The program and its arguments; no shell reads them.",
            "example": ("/usr/local/bin/page", "--urgent"),
        }
    )
    timeout: float = field(
        default=30.0,
        metadata={"help": "Seconds after which it is ended.", "above": 0, "most": 3600},
    )
    environment: Mapping[str, str | Secret] = field(
        default_factory=dict,
        metadata={"help": "More variables for the program.", "example": {"PLACE": "hall 3"}},
    )

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise ConfigurationError(
                '\'argv\' names no program; write it as ["program", "argument"].'
            )
        if any("\0" in argument for argument in self.argv):
            raise ConfigurationError("'argv' has a NUL in it, which no argument can have.")
        if not 0 < self.timeout <= 3600:
            raise ConfigurationError(
                f"'timeout' is {self.timeout:g} s; it must be above 0 and at most 3600."
            )
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise ConfigurationError(
                    f"'environment' has {name!r}, which is no name of a variable."
                )


class CommandSink(Sink):
    """Runs a program for each notice, one after the other, in the folder of the configuration.

    It gets the notice as JSON on its standard input, and as variables: EDGELSTM_SENSOR and the
    like, a name of `edgelstm.sinks.templates.FIELDS` each. Exit code 0 says that it has done its
    work, 65 (EX_DATAERR) that it never will; after any other, a signal or the timeout, it is run
    again later.

    Args:
        config: its options.
        context: has the folder.
    """

    Config = CommandConfig

    def __init__(self, config: CommandConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._program = config.argv[0]

    def send(self, notice: Notice) -> None:
        """Runs the program, and waits for it.

        Raises:
            RefusedNoticeError: it exited with 65.
            SinkError: it cannot be started, took too long, or failed.
        """
        code, output = self._run(notice)
        text = one_line(output.decode("utf-8", "replace"))
        if code == 0:
            if text:
                log.info("%s says: %s", self._program, text[:_SHOWN])
            return
        said = f": {text[:_SHOWN]}" if text else ""
        if code == REFUSED:
            raise RefusedNoticeError(f"{self._program} refuses it with exit code {code}{said}.")
        how = f"exit code {code}" if code > 0 else f"signal {_signal(-code)}"
        raise SinkError(f"{self._program} failed with {how}{said}.")

    def _run(self, notice: Notice) -> tuple[int, bytes]:
        """The exit code (negative for a signal), and the beginning of the output."""
        with _in_memory(dump(notice.to_dict())) as data:
            try:
                process = subprocess.Popen(
                    self.config.argv,
                    stdin=data,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd=self.context.directory,
                    env=self._environment(notice),
                    start_new_session=True,  # so that it can be ended with all that it started
                )
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise SinkError(
                    f"{self._program} cannot be started ({reason}); see to its path and its "
                    "permissions."
                ) from error
        with process:
            try:
                output = self._attend(process)
            except BaseException:
                _end(process)
                raise
            finally:
                if process.stdout is not None:
                    process.stdout.close()
            return process.returncode, output

    def _attend(self, process: subprocess.Popen[bytes]) -> bytes:
        """Reads what the program says until it is done; its children may go on."""
        pipe: IO[bytes] | None = process.stdout
        assert pipe is not None  # noqa: S101  # for the type checker: it was asked for
        os.set_blocking(pipe.fileno(), False)
        deadline = time.monotonic() + self.config.timeout
        output = b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                done = process.poll() is not None
                if selector.get_map():
                    selector.select(0.0 if done else _TICK_S)
                    output, is_open = _read(pipe, output)
                    if not is_open:
                        selector.unregister(pipe)
                elif not done:
                    time.sleep(_TICK_S)
                if done:
                    return output
                if time.monotonic() > deadline:
                    raise SinkError(
                        f"{self._program} was not done within {self.config.timeout:g} s and was "
                        "ended."
                    )

    def _environment(self, notice: Notice) -> dict[str, str]:
        given = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # A variable with a NUL, or half a surrogate pair, would keep the program from starting.
        told = {f"EDGELSTM_{name.upper()}": one_line(t) for name, t in fields(notice).items()}
        more = {
            name: value.reveal() if isinstance(value, Secret) else value
            for name, value in self.config.environment.items()
        }
        return given | told | more


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time ones have no name
        return str(number)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A file to be read, which is on no disk: that may be full."""
    file = os.memfd_create("notice")
    try:
        os.write(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


def _read(pipe: IO[bytes], output: bytes) -> tuple[bytes, bool]:
    """What has come is added as far as it is kept; and whether more may come."""
    for _ in range(64):  # a program that never stops talking must not keep us here
        try:
            data = os.read(pipe.fileno(), 65_536)
        except BlockingIOError:
            return output, True
        if not data:
            return output, False
        output = (output + data)[:_OUTPUT_BYTES]
    return output, True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program with all of its group: kindly, then surely."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
