"""What udev itself makes of the rules, for a board that is only described.

In a mount namespace of its own, with a made-up /sys: nothing of this machine is touched. Needs
`udevadm` (the Debian package udev), and root or user namespaces.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgelstm.diagnosis.ports import Port
from edgelstm.diagnosis.udev import link_name, rules

SHIPPED = Path(__file__).parents[2] / "devices/setup/60-edgelstm-serial.rules"
UNO = Port("/dev/ttyACM0", "Arduino Uno", 0x2341, 0x0043, "7573 X&1", "Arduino")
FTDI = Port("/dev/ttyUSB0", "FT232R", 0x0403, 0x6001)
BOARDS = ["2341", "2a03", "239a", "2e8a", "303a", "1a86", "10c4", "0403", "16c0"]

needs_udev = pytest.mark.skipif(shutil.which("udevadm") is None, reason="udevadm is not installed")


def udev(
    tmp_path: Path, text: str, vendor_id: str, product_id: str = "0043", *, at: str = ""
) -> str:
    """What `udevadm test` says of a port, or of what is `at` another place on its way.

    Args:
        tmp_path: for the rules.
        text: of the rules.
        vendor_id: of the USB device.
        product_id: of the USB device.
        at: "usb-serial" for the converter's own device.
    """
    rules_file = tmp_path / "60-edgelstm-serial.rules"
    rules_file.write_text(text)
    script = f"""
        set -e
        rules=$(cat {shlex.quote(str(rules_file))})
        udevadm=$(command -v udevadm)
        mount -t tmpfs none /run
        mkdir -p /run/udev/rules.d
        echo "$rules" > /run/udev/rules.d/60-edgelstm-serial.rules
        mount -t tmpfs none /sys
        mount -t tmpfs none /dev
        usb=/sys/devices/usb1/1-1
        interface=$usb/1-1:1.0
        converter=$interface/ttyUSB0
        port=$interface/tty/ttyACM0
        mkdir -p $port $converter /sys/bus/usb/drivers/x /sys/bus/usb-serial/drivers/ftdi_sio \
            /sys/class/tty
        ln -s /sys/class/tty $port/subsystem
        ln -s /sys/bus/usb-serial $converter/subsystem
        ln -s /sys/bus/usb-serial/drivers/ftdi_sio $converter/driver
        ln -s /sys/bus/usb $interface/subsystem
        ln -s /sys/bus/usb $usb/subsystem
        echo {vendor_id} > $usb/idVendor
        echo {product_id} > $usb/idProduct
        echo {shlex.quote(UNO.serial_number)} > $usb/serial
        echo 16 > $converter/latency_timer
        echo DEVTYPE=usb_device > $usb/uevent
        echo DEVTYPE=usb_interface > $interface/uevent
        printf 'DRIVER=ftdi_sio\\n' > $converter/uevent
        printf 'MAJOR=166\\nMINOR=0\\nDEVNAME=ttyACM0\\n' > $port/uevent
        export SYSTEMD_DEVICE_VERIFY_SYSFS=0
        $udevadm test {"$converter" if at == "usb-serial" else "$port"} 2>&1
        echo latency timer: $(cat $converter/latency_timer)
    """
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["/usr/bin/unshare", "--mount", "--propagation=private", *as_root, "/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def complaints(said: str) -> list[str]:
    """What udev finds wrong in the file: it names the place, and does nothing."""
    return re.findall(r"^/run/udev/rules\.d/\S+:\d+:? .*", said, re.M)


def is_open(said: str) -> bool:
    """Whether the port is given to the group and to whoever sits here, and to no modem manager."""
    group = re.search(r"rules:\d+ GROUP (\d+)", said)
    lines = said.splitlines()
    return (
        group is not None
        and "MODE 0660" in said
        and "run: 'uaccess'" in lines
        and "ID_MM_DEVICE_IGNORE=1" in lines
    )


@needs_udev
@pytest.mark.parametrize("vendor_id", BOARDS)
def test_the_shipped_rules_open_the_ports_of_the_usual_boards(
    tmp_path: Path, vendor_id: str
) -> None:
    said = udev(tmp_path, SHIPPED.read_text(), vendor_id)
    assert complaints(said) == []
    assert is_open(said)


@needs_udev
def test_the_shipped_rules_leave_others_alone(tmp_path: Path) -> None:
    said = udev(tmp_path, SHIPPED.read_text(), "046d")
    assert complaints(said) == []
    assert "60-edgelstm-serial.rules:" not in said
    assert "latency timer: 16" in said


@needs_udev
def test_the_shipped_rules_make_ftdi_chips_quick(tmp_path: Path) -> None:
    said = udev(tmp_path, SHIPPED.read_text(), "0403", "6001", at="usb-serial")
    assert complaints(said) == []
    assert re.search(r"ATTR.*latency_timer.*1", said)


@needs_udev
def test_the_rules_for_what_is_plugged_in(tmp_path: Path) -> None:
    text = "\n".join(rules([UNO, FTDI]))
    said = udev(tmp_path, text, "2341")
    assert complaints(said) == []
    assert is_open(said)
    assert f"/dev/{link_name(UNO)}" in said
    other = udev(tmp_path, text, "2341", "0042")
    assert not is_open(other)
    assert link_name(UNO) not in other


@needs_udev
def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    good = SHIPPED.read_text()
    for wrong in (good.replace("ATTRS{", "ATTRZ{", 1), good.replace('LABEL="edge', 'LABEL="x')):
        assert complaints(udev(tmp_path, wrong, "2341"))
