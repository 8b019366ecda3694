"""The vectors that the Python, C and MicroPython sides share, against the Python side.

Some are also computed by hand here, so that both sides cannot be wrong together.
"""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from vectors import HELLOS, PATH, VECTORS

from edgelstm.errors import ProtocolError
from edgelstm_bridge import messages
from edgelstm_bridge.codec import cobs_decode, cobs_encode, crc16, decode_frame, encode_frame
from edgelstm_bridge.messages import Sample, decode_message


def frame_of(payload: str) -> str:
    """The frame of a payload, computed bit by bit and byte by byte."""
    crc = 0xFFFF
    for byte in bytes.fromhex(payload):
        for bit in range(8):
            leaves = (crc >> 15) ^ (byte >> (7 - bit) & 1)
            crc = (crc << 1 & 0xFFFF) ^ (0x1021 if leaves else 0)
    body = bytes.fromhex(payload) + bytes([crc & 0xFF, crc >> 8])
    assert len(body) < 255, "one block each"
    return "".join(
        f"{len(part) + 1:02x}{part.hex()}" for part in body.split(b"\0")
    ) + "00"  # fmt: skip


def entry_of(kind: str, **fields: Any) -> dict[str, Any]:
    (entry,) = (e for e in VECTORS[kind] if all(e[name] == fields[name] for name in fields))
    found: dict[str, Any] = entry
    return found


def test_the_file_is_what_the_script_makes(tmp_path: Path) -> None:
    script = PATH.with_name("make_frames.py")
    subprocess.run([sys.executable, script, tmp_path / "frames.json"], check=True)
    assert (tmp_path / "frames.json").read_text() == PATH.read_text()


def test_published_values() -> None:
    # The check value of CRC-16/CCITT-FALSE, and the examples of the COBS article on Wikipedia.
    assert entry_of("crc16", data=b"123456789".hex())["crc"] == 0x29B1
    assert entry_of("crc16", data="")["crc"] == 0xFFFF
    assert entry_of("crc16", data="41")["crc"] == 0xB915
    encoded = {entry["data"]: entry["encoded"] for entry in VECTORS["cobs"]}
    block = bytes(range(1, 0xFF)).hex()
    for data, expected in {
        "": "01",
        "00": "0101",
        "0000": "010101",
        "001100": "01021101",
        "11220033": "0311220233",
        "11223344": "0511223344",
        "11000000": "0211010101",
        block: "ff" + block,
        "00" + block: "01ff" + block,
        block + "ff": "ff" + block + "02ff",
        "07" * 254: "ff" + "07" * 254,
        "07" * 254 + "00": "ff" + "07" * 254 + "0101",
        "07" * 508: "ff" + "07" * 254 + "ff" + "07" * 254,
    }.items():
        assert encoded[data] == expected


@pytest.mark.parametrize(
    ("kind", "fields", "payload"),
    [
        ("messages", {"type": "stop"}, "11"),
        ("messages", {"type": "start"}, "12"),
        ("messages", {"type": "report"}, "15"),
        ("messages", {"type": "ping", "token": 0x0A0B0C0D}, "130d0c0b0a"),
        ("messages", {"type": "rate", "sample_period_us": 10_000}, "1410270000"),
        ("messages", {"type": "end", "sample_count": 2**32 - 1}, "03ffffffff"),
        ("messages", {"type": "pong", "token": 1}, "050100000004030201"),
        ("messages", {"type": "log", "text": ""}, "0401"),
        (
            "messages",
            {"type": "statistics", "sample_count": 1},
            "0601000000020000000300000004000000",
        ),
        # Number 258, clock 0x04030201, values -1 and 256.
        ("samples", {"hello": "int16", "sequence_number": 258}, "02020101020304ffff0001"),
        # Number 3, clock 2^24, values 1.5 and -0.0.
        (
            "samples",
            {"hello": "float32", "sequence_number": 3},
            "02030000000001" + "0000c03f" + "00000080",
        ),
    ],
)
def test_by_hand(kind: str, fields: dict[str, Any], payload: str) -> None:
    entry = entry_of(kind, **fields)
    assert entry["payload"] == payload
    assert entry["frame"] == frame_of(payload)


def test_a_hello_by_hand() -> None:
    entry = VECTORS["hellos"]["int16"]
    assert entry["payload"] == (
        "01" "01" "00"  # hello, version 1, int16
        "10270000" "01000000"  # every 10,000 us, ticks of 1 us
        "0000000000000000"  # no wall clock
        "07000000" "02010000"  # boot 7, 258 samples were due
        "05626f617264" "05312e302e30"  # board, 1.0.0
        "02"  # channels
        "026130" "0156" "0000803e"  # a0, V, 0.25
        "026131" "00" "0000003f"  # a1, no unit, 0.5
    )  # fmt: skip
    assert entry["frame"] == frame_of(entry["payload"])


def test_crc_and_cobs() -> None:
    for entry in VECTORS["crc16"]:
        assert crc16(bytes.fromhex(entry["data"])) == entry["crc"]
    for entry in VECTORS["cobs"]:
        data, encoded = bytes.fromhex(entry["data"]), bytes.fromhex(entry["encoded"])
        assert cobs_encode(data) == encoded
        assert cobs_decode(encoded) == data


def test_frames_hold_their_payloads() -> None:
    every = [*VECTORS["payloads"], *VECTORS["hellos"].values(), *VECTORS["samples"]]
    for entry in [*every, *VECTORS["messages"]]:
        payload, frame = bytes.fromhex(entry["payload"]), bytes.fromhex(entry["frame"])
        assert encode_frame(payload) == frame
        assert decode_frame(frame[:-1]) == payload


def test_the_edges_of_a_block_are_among_the_payloads() -> None:
    bodies = [cobs_decode(bytes.fromhex(entry["frame"])[:-1]) for entry in VECTORS["payloads"]]
    for size in (253, 254, 255, 508):
        assert any(len(body) == size and 0 not in body for body in bodies)
    for last_is_zero in (True, False):
        assert any(len(body) == 255 and (body[-1] == 0) is last_is_zero for body in bodies)
    assert max(map(len, bodies)) == 1026


def test_messages() -> None:
    for name, hello in HELLOS.items():
        payload = bytes.fromhex(VECTORS["hellos"][name]["payload"])
        assert hello.encode() == payload
        assert decode_message(payload, None) == hello
    for entry in VECTORS["messages"]:
        message = decode_message(bytes.fromhex(entry["payload"]), None)
        fields = {name: entry[name] for name in entry if name not in ("type", "payload", "frame")}
        assert type(message) is getattr(messages, entry["type"].capitalize())
        assert asdict(message) == fields  # type: ignore[arg-type]  # no sample is among them


def test_samples() -> None:
    for entry in VECTORS["samples"]:
        hello = HELLOS[entry["hello"]]
        sample = decode_message(bytes.fromhex(entry["payload"]), hello)
        assert isinstance(sample, Sample)
        assert sample.sequence_number == entry["sequence_number"]
        assert sample.device_clock == entry["device_clock"]
        expected = [
            float(v) * scale for v, scale in zip(entry["values"], hello.scales, strict=True)
        ]
        assert list(sample.values) == expected


def test_bad_commands_are_no_commands() -> None:
    for entry in VECTORS["bad_commands"]:
        try:
            message = decode_message(decode_frame(bytes.fromhex(entry["frame"])[:-1]), None)
        except ProtocolError:
            continue
        # What Python can read: a rate of 0, and a message of a device.
        assert message in (messages.Rate(0), messages.End(1)), entry["reason"]
