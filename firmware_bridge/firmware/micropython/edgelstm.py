"""Sends a MicroPython board's samples to edgelstm over its serial line; see README.md.

One file for the RP2040 and the ESP32, MicroPython 1.20 or later. It speaks version 1 of the
protocol in PROTOCOL.md. All numbers on the way of a sample stay below 2^30, where MicroPython
keeps them without allocating memory.
"""

import binascii
import os
import struct
import time

# CPython has no ticks_us; the tests, which run this file there too, put a clock in its place.
ticks_us = getattr(time, "ticks_us", None) or time.monotonic_ns

INT16, INT32, FLOAT32 = 0, 1, 2
DEBUG, INFO, WARNING, ERROR = 0, 1, 2, 3

_HELLO, _SAMPLE, _END, _LOG, _PONG, _STATISTICS = 1, 2, 3, 4, 5, 6
_STOP, _START, _PING, _RATE, _REPORT = 0x11, 0x12, 0x13, 0x14, 0x15
_COMMAND_SIZES = {_STOP: 1, _START: 1, _PING: 5, _RATE: 5, _REPORT: 1}
_HELLO_HEAD = "<BBBIIqII"
_PERIOD_AT, _COUNT_AT = 3, 23  # where the two fields of a hello that change are
_SAMPLE_HEAD_SIZE = 7
_MAX_PAYLOAD = 1024
_MAX_LOG_TEXT = 200
_MAX_ENCODED_COMMAND = 19  # 16 bytes of payload, the CRC and COBS's byte
_READ_LIMIT = 64  # bytes taken per poll: a host that never stops sending must not stop samples
_LONGEST_PERIOD_US = 0x3FFFFFFF
_HELLO_INTERVAL_US = 2000000  # of a device that cannot receive


class Device:
    """The device's half of the protocol.

    Args:
        port: `StdioPort`, `UartPort` or anything with their `read` and `write`.
        channels: a tuple (name, unit, scale) for each channel; the host computes
            physical value = value * scale.
        sample_period_us: time from one sample to the next.
        value_type: `INT16`, `INT32` or `FLOAT32`: how samples carry their values.
        device_id: tells this device from others; the chip's serial number by default.
        firmware_version: free text.
        shortest_period_us: a host that asks for less gets this.
        one_way: the host cannot be heard: send from the start, with a hello every 2 seconds.
        boot_id: a number that no earlier boot had; random by default.
        buffer_size: room in bytes for samples that wait for the line.

    Attributes:
        sample_count: samples that were due since the boot, with the three below.
        overruns: those that were not taken, because the program was late or chose not to.
        dropped: those that found no room in the buffer.
        bad_commands: frames from the host that are damaged or say nothing known.

    Raises:
        ValueError: the description is not one that the protocol allows.
    """

    def __init__(
        self,
        port: object,
        channels: tuple,
        sample_period_us: int,
        *,
        value_type: int = FLOAT32,
        device_id: str = "",
        firmware_version: str = "",
        shortest_period_us: int = 1000,
        one_way: bool = False,
        boot_id: int = 0,
        buffer_size: int = 1024,
    ):
        self._port = port
        self._channel_count = len(channels)
        self._code = ("<h", "<i", "<f")[value_type]
        self._width = (2, 4, 4)[value_type]
        self._limit = (0x7FFF, 0x7FFFFFFF, 0)[value_type]
        self._lowest = -self._limit - 1
        self._shortest_period_us = shortest_period_us
        self._one_way = one_way
        self.sample_count = self.overruns = self.dropped = self.bad_commands = 0
        self.running = one_way
        self._due = False  # a sample was asked for and has not come yet

        hello = bytearray(struct.pack(_HELLO_HEAD, _HELLO, 1, value_type, 0, 1, 0, 0, 0))
        struct.pack_into("<I", hello, 19, boot_id or _random())
        hello += _text(device_id or _serial_number()) + _text(firmware_version)
        hello += _channels(channels)
        self._hello_size = len(hello)
        if self._hello_size > _MAX_PAYLOAD:
            raise ValueError("the channels fill more than one hello: give them shorter names")
        self._hello = hello + bytes(2)  # each payload is followed by room for its CRC
        self._sample_size = _SAMPLE_HEAD_SIZE + self._width * self._channel_count
        self._sample = bytearray(self._sample_size + 2)
        self._answer = bytearray(17 + 2)

        # Samples leave this much free, and commands wait for it: answers are never lost.
        self._reserve = max(_frame_size(self._hello_size), _frame_size(17) + _frame_size(5))
        self._out = bytearray(self._reserve + max(buffer_size, _frame_size(self._sample_size)))
        self._view = memoryview(self._out)
        self._head = self._tail = self._used = 0
        self._command = bytearray(_MAX_ENCODED_COMMAND)
        self._command_size = 0

        # The device clock in two halves, because MicroPython's own clock wraps at 2^30.
        self._clock_low = self._clock_high = 0
        self._ticks = ticks_us()
        self._hello_in = _HELLO_INTERVAL_US
        self._set_period(sample_period_us)
        self._send_hello()

    def poll(self) -> bool:
        """Serve the line; return whether a sample is due now.

        Then read the sensors and call `sample` before the next poll; a sample left out counts
        as an overrun. Call it often, and at least every 15 minutes: the clock rests on it.
        """
        if self._due:
            self._due = False
            self.overruns += 1
        self._write()
        self._receive()
        self._tick()
        if self._one_way and self._hello_in <= 0 and self._room() >= self._reserve:
            self._hello_in = _HELLO_INTERVAL_US
            self._send_hello()
        if self.running and self._until_due <= 0:
            late = -self._until_due // self._period_us
            self._until_due += (late + 1) * self._period_us
            self.sample_count += late + 1
            self.overruns += late
            self._due = True
        return self._due

    def sample(self, values: tuple) -> bool:
        """Send the sample that is due, one value per channel; return whether there was room.

        Integers are rounded and saturated.

        Raises:
            RuntimeError: no sample is due.
            ValueError: there is not one value per channel, or a NaN for an integer.
        """
        if not self._due:
            raise RuntimeError("no sample is due: call sample() once after poll() returned True")
        if len(values) != self._channel_count:
            raise ValueError("a sample needs one value for each channel")
        payload = self._sample
        sequence_number = (self.sample_count - 1) & 0xFFFF
        struct.pack_into(
            "<BHHH", payload, 0, _SAMPLE, sequence_number, self._clock_low, self._clock_high
        )
        at = _SAMPLE_HEAD_SIZE
        for i in range(self._channel_count):
            value = values[i]
            if self._limit:
                if value > self._limit:
                    value = self._limit
                elif value < self._lowest:
                    value = self._lowest
                value = round(value)
            struct.pack_into(self._code, payload, at, value)
            at += self._width
        self._due = False
        if self._room() < self._reserve + _frame_size(at):
            self.dropped += 1
            return False
        self._queue(payload, at)
        return True

    def log(self, level: int, text: str) -> bool:
        """Send a line for people, cut to 200 bytes; return whether there was room for it."""
        encoded = text.encode()
        size = min(len(encoded), _MAX_LOG_TEXT)
        while size < len(encoded) and encoded[size] & 0xC0 == 0x80:
            size -= 1  # not in the middle of a character
        if self._room() < self._reserve + _frame_size(size + 2):
            return False
        self._queue(bytearray((_LOG, level)) + encoded[:size] + bytes(2), size + 2)
        return True

    def _tick(self):
        """Move the device clock on by what has passed, to the microsecond and modulo 2^32."""
        ticks = ticks_us()
        passed = (ticks - self._ticks) & 0x3FFFFFFF
        self._ticks = ticks
        low = self._clock_low + (passed & 0xFFFF)
        self._clock_high = (self._clock_high + (passed >> 16) + (low >> 16)) & 0xFFFF
        self._clock_low = low & 0xFFFF
        if self.running:
            self._until_due -= passed
        if self._one_way:
            self._hello_in -= passed

    def _set_period(self, period_us):
        self._period_us = min(max(period_us, self._shortest_period_us, 1), _LONGEST_PERIOD_US)
        self._until_due = self._period_us

    def _receive(self):
        for _ in range(_READ_LIMIT):
            if self._room() < self._reserve:
                return
            byte = self._port.read()
            if byte < 0:
                return
            if byte:
                if self._command_size < _MAX_ENCODED_COMMAND:
                    self._command[self._command_size] = byte
                    self._command_size += 1  # what is longer is cut, and so matches no CRC
            elif self._command_size:
                size = decode(self._command, self._command_size)
                self._command_size = 0
                if not size or _COMMAND_SIZES.get(self._command[0]) != size:
                    self.bad_commands += 1
                else:
                    self._obey(self._command[0])

    def _obey(self, command):
        self._tick()
        if command == _START:
            if not self.running:
                self.running = True
                self._until_due = self._period_us
            self._send_hello()
        elif command == _STOP:
            self.running = False
            self._send_statistics()
            struct.pack_into("<BI", self._answer, 0, _END, self.sample_count & 0xFFFFFFFF)
            self._queue(self._answer, 5)
        elif command == _PING:
            token = struct.unpack_from("<I", self._command, 1)[0]
            struct.pack_into(
                "<BIHH", self._answer, 0, _PONG, token, self._clock_low, self._clock_high
            )
            self._queue(self._answer, 9)
        elif command == _REPORT:
            self._send_statistics()
        else:
            period_us = struct.unpack_from("<I", self._command, 1)[0]
            if period_us:
                self._set_period(period_us)
                self._send_hello()
            else:
                self.bad_commands += 1

    def _send_hello(self):
        struct.pack_into("<I", self._hello, _PERIOD_AT, self._period_us)
        struct.pack_into("<I", self._hello, _COUNT_AT, self.sample_count & 0xFFFFFFFF)
        self._queue(self._hello, self._hello_size)

    def _send_statistics(self):
        self._answer[0] = _STATISTICS
        at = 1
        for count in (self.sample_count, self.dropped, self.overruns, self.bad_commands):
            struct.pack_into("<I", self._answer, at, count & 0xFFFFFFFF)
            at += 4
        self._queue(self._answer, at)

    def _room(self):
        return len(self._out) - self._used

    def _queue(self, payload, size):
        """Append the frame of a payload to the ring buffer; the caller saw that there is room."""
        crc = crc16(payload, size)
        payload[size] = crc & 0xFF
        payload[size + 1] = crc >> 8
        out = self._out
        end = len(out)
        code_at = self._head
        at = code_at + 1 if code_at + 1 < end else 0
        code = 1
        for i in range(size + 2):
            if code == 255:  # COBS: a full block, which stands for no 0x00
                out[code_at] = 255
                code_at = at
                code = 1
                at = at + 1 if at + 1 < end else 0
            byte = payload[i]
            if byte:
                out[at] = byte
                code += 1
            else:
                out[code_at] = code
                code_at = at
                code = 1
            at = at + 1 if at + 1 < end else 0
        out[code_at] = code
        out[at] = 0
        at = at + 1 if at + 1 < end else 0
        self._used += (at - self._head) % end
        self._head = at

    def _write(self):
        while self._used:
            size = min(self._used, len(self._out) - self._tail)
            taken = self._port.write(self._view[self._tail : self._tail + size])
            self._used -= taken
            self._tail = (self._tail + taken) % len(self._out)
            if taken < size:
                return


class StdioPort:
    """The port that MicroPython's prompt is on: USB on a Pico, the USB socket of most boards.

    It takes Ctrl-C away from the prompt, because any byte may come from the host. From now on
    nothing else may print.
    """

    def __init__(self):
        import select
        import sys

        import micropython

        micropython.kbd_intr(-1)
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        self._readable = select.poll()
        self._readable.register(sys.stdin, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sys.stdout, select.POLLOUT)
        self._byte = bytearray(1)

    def read(self) -> int:
        """Return the next byte that came, or -1 when none has."""
        for _ in self._readable.ipoll(0):
            if self._in.readinto(self._byte):
                return self._byte[0]
        return -1

    def write(self, data: memoryview) -> int:
        """Take what there is room for now, up to 64 bytes; return how many."""
        # Byte by byte: the poll tells that there is room, not how much, and a write of more
        # than fits waits for up to half a second.
        size = min(len(data), 64)
        for i in range(size):
            for _ in self._writable.ipoll(0):
                break
            else:
                return i
            self._byte[0] = data[i]
            self._out.write(self._byte)
        return size


class UartPort:
    """A `machine.UART`.

    Args:
        uart: made with a `txbuf` of at least 4 times `chunk`, so that no write has to wait.
        chunk: bytes handed over at a time, once those before are on the line.
    """

    def __init__(self, uart: object, chunk: int = 128):
        self._uart = uart
        self._chunk = chunk
        self._byte = bytearray(1)

    def read(self) -> int:
        """Return the next byte that came, or -1 when none has."""
        if self._uart.any() and self._uart.readinto(self._byte):
            return self._byte[0]
        return -1

    def write(self, data: memoryview) -> int:
        """Take up to a chunk if the line is idle; return how many bytes."""
        if not self._uart.txdone():
            return 0
        return self._uart.write(data[: self._chunk]) or 0


def crc16(data: bytearray, size: int) -> int:
    """Return the CRC-16/CCITT-FALSE of the first `size` bytes."""
    crc = 0xFFFF
    for i in range(size):
        x = (crc >> 8) ^ data[i]
        x ^= x >> 4
        crc = ((crc << 8) ^ (x << 12) ^ (x << 5) ^ x) & 0xFFFF
    return crc


def decode(frame: bytearray, size: int) -> int:
    """Undo COBS where it stands; return the size of the payload, 0 when it is damaged.

    For frames of fewer than 255 bytes, given without their 0x00.
    """
    source = target = 0
    while source < size:
        end = source + frame[source]
        source += 1
        if end > size:
            return 0
        while source < end:
            frame[target] = frame[source]
            source += 1
            target += 1
        if source < size:
            frame[target] = 0
            target += 1
    size = target - 2
    if size < 1:
        return 0
    crc = crc16(frame, size)
    return size if frame[size] == crc & 0xFF and frame[size + 1] == crc >> 8 else 0


def _frame_size(payload_size):
    body = payload_size + 2
    return body + body // 254 + 2


def _text(text):
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError("a text has at most 255 bytes: shorten " + text[:20] + "...")
    return bytes((len(encoded),)) + encoded


def _channels(channels):
    if not 1 <= len(channels) <= 64:
        raise ValueError("a device has 1 to 64 channels")
    names = set()
    encoded = bytearray((len(channels),))
    for name, unit, scale in channels:
        if not name or name in names:
            raise ValueError("each channel needs a name of its own")
        names.add(name)
        packed = struct.pack("<f", scale)
        carried = struct.unpack("<f", packed)[0]
        if carried == 0 or carried - carried != 0:
            raise ValueError("the scale of a channel is a finite number other than 0: " + name)
        encoded += _text(name) + _text(unit) + packed
    return encoded


def _random():
    """Return a number for a boot; 0, which stands for none, where there is no randomness."""
    try:
        return int.from_bytes(os.urandom(4), "little") or 1
    except AttributeError:
        return 0


def _serial_number():
    try:
        import machine

        return binascii.hexlify(machine.unique_id()).decode()
    except (ImportError, AttributeError):
        return ""
