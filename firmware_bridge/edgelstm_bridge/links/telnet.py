"""The client's half of Telnet with the COM port option (RFC 854, 856, 2217). Sans-IO."""

from __future__ import annotations

import struct

_IAC, _DONT, _DO, _WONT, _WILL, _SB, _SE = 255, 254, 253, 252, 251, 250, 240
_BINARY, _SUPPRESS_GO_AHEAD, _COM_PORT = 0, 3, 44
_SET_BAUD_RATE, _SET_DATA_SIZE, _SET_PARITY, _SET_STOP_SIZE, _SET_CONTROL = 1, 2, 3, 4, 5
_NO_PARITY, _ONE_STOP_BIT, _NO_FLOW_CONTROL = 1, 1, 1
_SERVER_BASE = 100  # a server answers a command with this much more
_OURS = {_BINARY, _SUPPRESS_GO_AHEAD, _COM_PORT}
_THEIRS = {_BINARY, _SUPPRESS_GO_AHEAD}
_MAX_SUBNEGOTIATION = 1024

_ESCAPED_IAC = bytes((_IAC, _IAC))


class ComPortClient:
    """Takes the data out of a Telnet stream, and asks the server for a clean 8N1 serial line.

    The modem lines are left as the server has them: moving DTR would reset many boards.

    Args:
        baud_rate: what the server shall set; None leaves the line as it is.
    """

    def __init__(self, baud_rate: int | None = None) -> None:
        self._baud_rate = baud_rate
        self._rest = b""
        self._agreed_ours: set[int] = set()
        self._agreed_theirs: set[int] = set()
        self._refused: set[int] = set()
        self._server_rate: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether data passes unchanged both ways, at the baud rate asked for."""
        return (
            {_BINARY, _COM_PORT} <= self._agreed_ours
            and _BINARY in self._agreed_theirs
            and (self._baud_rate is None or self._server_rate is not None)
        )

    @property
    def is_refused(self) -> bool:
        """Whether the server has said that it has no COM port or no binary data."""
        return bool(self._refused & {_BINARY, _COM_PORT})

    @property
    def server_rate(self) -> int | None:
        """The baud rate that the server says it has set; None before it has said."""
        return self._server_rate

    def requests(self) -> bytes:
        """What is sent first."""
        wishes = [(_WILL, option) for option in sorted(_OURS)]
        wishes += [(_DO, option) for option in sorted(_THEIRS)]
        return b"".join(bytes((_IAC, verb, option)) for verb, option in wishes)

    def receive(self, received: bytes) -> tuple[bytes, bytes]:
        """Takes bytes from the server; returns the data in them, and what to answer."""
        stream = self._rest + received
        self._rest = b""
        data, answers = bytearray(), bytearray()
        start = 0
        while (command := stream.find(_IAC, start)) >= 0:
            data += stream[start:command]
            end = self._end_of(stream, command)
            if end is None:
                self._rest = stream[command:]
                return bytes(data), bytes(answers)
            verb = stream[command + 1]
            if verb == _IAC:
                data.append(_IAC)
            elif verb == _SB:
                self._subnegotiated(stream[command + 2 : end - 2])
            elif verb >= _WILL:
                answers += self._negotiated(verb, stream[command + 2])
            start = end
        data += stream[start:]
        return bytes(data), bytes(answers)

    @staticmethod
    def escape(data: bytes) -> bytes:
        """Returns data as it is sent in a Telnet stream."""
        return data.replace(_ESCAPED_IAC[:1], _ESCAPED_IAC)

    @staticmethod
    def _end_of(stream: bytes, command: int) -> int | None:
        """The place after the command that begins at `command`; None while it is not whole."""
        if len(stream) < command + 2:
            return None
        verb = stream[command + 1]
        if verb == _SB:
            end = command + 2
            while (end := stream.find(_IAC, end)) >= 0 and end + 1 < len(stream):
                if stream[end + 1] == _SE:
                    return end + 2
                end += 2
            # A server that never ends it is not waited for: what follows is data again.
            return None if len(stream) - command <= _MAX_SUBNEGOTIATION else len(stream)
        size = 3 if _WILL <= verb <= _DONT else 2
        return command + size if len(stream) >= command + size else None

    def _negotiated(self, verb: int, option: int) -> bytes:
        wanted = _OURS if verb in (_DO, _DONT) else _THEIRS
        if verb in (_DONT, _WONT):
            if option in wanted:
                self._refused.add(option)
            return b""
        if option not in wanted:
            return bytes((_IAC, _WONT if verb == _DO else _DONT, option))
        # What we asked for ourselves is not answered again: that would never end.
        agreed = self._agreed_ours if verb == _DO else self._agreed_theirs
        is_new = option not in agreed
        agreed.add(option)
        return self._line_settings() if verb == _DO and option == _COM_PORT and is_new else b""

    def _line_settings(self) -> bytes:
        if self._baud_rate is None:
            return b""
        return b"".join(
            (
                _subnegotiation(_SET_BAUD_RATE, struct.pack("!I", self._baud_rate)),
                _subnegotiation(_SET_DATA_SIZE, b"\x08"),
                _subnegotiation(_SET_PARITY, bytes((_NO_PARITY,))),
                _subnegotiation(_SET_STOP_SIZE, bytes((_ONE_STOP_BIT,))),
                _subnegotiation(_SET_CONTROL, bytes((_NO_FLOW_CONTROL,))),
            )
        )

    def _subnegotiated(self, content: bytes) -> None:
        content = content.replace(_ESCAPED_IAC, _ESCAPED_IAC[:1])
        if content[:2] == bytes((_COM_PORT, _SERVER_BASE + _SET_BAUD_RATE)) and len(content) == 6:
            self._server_rate = struct.unpack("!I", content[2:])[0]


def _subnegotiation(command: int, value: bytes) -> bytes:
    return bytes((_IAC, _SB, _COM_PORT, command)) + ComPortClient.escape(value) + bytes((_IAC, _SE))
