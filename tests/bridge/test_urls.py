from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.urls import SCHEMES, SourceUrl, UsbDevice, parse_url, without_password


def refused(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/dev/ttyACM0", "/dev/ttyACM0"),
        ("ttyACM0", "ttyACM0"),
        ("serial:///dev/ttyACM0", "/dev/ttyACM0"),
        ("serial:/dev/ttyACM0", "/dev/ttyACM0"),
        ("SERIAL:/dev/ttyACM0", "/dev/ttyACM0"),
        ("serial:by-id/usb-Arduino_Uno-if00", "/dev/serial/by-id/usb-Arduino_Uno-if00"),
        ("serial:by-path/pci-0000:00:14.0", "/dev/serial/by-path/pci-0000:00:14.0"),
        ("/dev/serial/by-path/pci-0:1.0", "/dev/serial/by-path/pci-0:1.0"),
        ("serial:///dev/a%20port", "/dev/a port"),
    ],
)
def test_a_serial_port_is_named_by_its_path(text: str, path: str) -> None:
    assert parse_url(text) == SourceUrl("serial", path)
    assert parse_url(text).usb is None


def test_a_serial_port_has_a_baud_rate() -> None:
    url = parse_url("serial:///dev/ttyACM0?baud=57600")
    assert (url.path, url.baud_rate) == ("/dev/ttyACM0", 57_600)
    assert parse_url("/dev/ttyACM0?baud=57600").baud_rate == 57_600
    assert parse_url("/dev/ttyACM0").baud_rate is None


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("serial:?vid=2341&pid=0043&serial=ABC", UsbDevice(0x2341, 0x43, "ABC")),
        ("serial:?vid=0x2341", UsbDevice(0x2341)),
        ("serial:?serial=a%26b", UsbDevice(serial_number="a&b")),
        ("serial:?pid=43&baud=9600", UsbDevice(product=0x43)),
    ],
)
def test_a_serial_port_is_named_by_its_usb_device(text: str, device: UsbDevice) -> None:
    assert parse_url(text).usb == device
    assert parse_url(text).path == ""


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("gateway.local:7000", "gateway.local", 7000), ("[fe80::1]:23", "fe80::1", 23)],
)
def test_a_server_has_a_host_and_a_port(scheme: str, address: str, host: str, port: int) -> None:
    url = parse_url(f"{scheme}://{address}")
    assert (url.host, url.port, url.address) == (host, port, address)
    assert parse_url(f"{scheme}://{address}/") == url


def test_a_broker_has_a_topic_and_a_login() -> None:
    url = parse_url("mqtt://me:se%2Fcret@broker.local/pump/+/x/%23?qos=1")
    assert (url.host, url.port, url.path) == ("broker.local", 1883, "pump/+/x/#")
    assert (url.username, url.password, url.qos) == ("me", "se/cret", 1)
    assert parse_url("mqtts://broker/pump").port == 8883
    assert parse_url("mqtt://broker:99/pump/#").port == 99
    assert parse_url("mqtt://broker/pump").qos == 0


def test_a_capture_has_a_speed() -> None:
    assert parse_url("replay:a/b.capture") == SourceUrl("replay", "a/b.capture")
    assert parse_url("replay:///data/b.capture?speed=1").path == "/data/b.capture"
    assert parse_url("replay:x").speed == math.inf
    assert parse_url("replay:x?speed=max").speed == math.inf
    assert parse_url("replay:x?speed=2.5").speed == 2.5


def test_the_standard_input_stands_alone() -> None:
    assert parse_url("stdin:") == SourceUrl("stdin")


def test_the_options_of_a_plug_in_are_its_own() -> None:
    url = parse_url("i2c:1?address=0x68&rate=100", ["i2c"])
    assert url == SourceUrl("i2c", "1", options={"address": "0x68", "rate": "100"})
    assert parse_url("opcua://me:x@host:4840/a/b", ["opcua"]) == SourceUrl(
        "opcua", "a/b", "host", 4840, "me", "x"
    )


def test_a_plug_in_takes_no_scheme_of_ours() -> None:
    with pytest.raises(ConfigurationError, match="no option 'address'"):
        parse_url("serial:x?address=1", ["serial"])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "names no port"),
        ("serial:", "names no port"),
        ("serial:?baud=9600", "names no port"),
        ("serial://dev/ttyACM0", "three slashes, so write serial:///dev/ttyACM0"),
        ("serial:///dev/ttyACM0?vid=2341", "not by both"),
        ("serial:?vid=23412", "up to four hex digits"),
        ("serial:?vid=-1", "up to four hex digits"),
        ("serial:?serial=", "an option is empty"),
        ("/dev/ttyACM0?baud=fast", "baud=fast is no baud rate"),
        ("/dev/ttyACM0?baud=0", "baud=0 is no baud rate"),
        ("/dev/ttyACM0?baud=9600&baud=9600", "given twice"),
        ("/dev/ttyACM0?bauds=9600", "no option 'bauds'; the options of serial are baud, vid, pid"),
        ("socket://host:1?baud=9600", "no option 'baud'; socket has none"),
        ("socket://host", "needs a host and a port, as in socket://gateway.local:7000"),
        ("socket:host:7000", "needs a host and a port"),
        ("socket://:7000", "needs a host and a port"),
        ("rfc2217://host:0", "no number from 1 to 65535"),
        ("rfc2217://host:99999", "no number from 1 to 65535"),
        ("socket://host:1/x", "no path, so leave out /x"),
        ("socket://me@host:1", "no login"),
        ("socket://[::1:1", "its host makes no sense"),
        ("stdin:x", "stands alone"),
        ("replay:", "names no file"),
        ("replay://x", "write replay:x"),
        ("replay:x?speed=0", "speed=0 is neither"),
        ("replay:x?speed=nan", "speed=nan is neither"),
        ("replay:x?speed=fast", "speed=fast is neither"),
        ("mqtt://broker", "needs a host and a topic, as in mqtt://broker.local/pump/vibration"),
        ("mqtt:/x", "needs a host and a topic"),
        ("mqtt://broker/a?qos=3", "qos=3 is none of 0, 1 and 2"),
        ("mqtt://broker/a#/b", "+ stands alone"),
        ("mqtt://broker/#/b", "# alone at the end"),
        ("mqtt://broker/a@b", "%40"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(text: str, part: str) -> None:
    message = refused(text)
    assert part in message
    assert message.startswith(f"The source {text!r} cannot be used: ")
    assert message.endswith(".")


def test_an_unknown_scheme_names_the_known_ones_and_how_plug_ins_come() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url("spi:0", ["i2c"])
    message = str(caught.value)
    assert all(scheme in message for scheme in (*SCHEMES, "i2c"))
    assert "edgelstm.sources" in message


@pytest.mark.parametrize(
    "text",
    [
        "mqtt://me:{}@broker/pump",
        "mqtt://me:{}@broker",
        "mqtt://me:{}@broker:x/pump",
        "mqtt://me:{}@broker/pump?nonsense=1",
        "foo://me:{}@broker",
        "socket://me:{}@broker:1",
        "mqtt://me:{}@[/pump",
    ],
)
@pytest.mark.parametrize("password", ["hunter2", "h/unter2", "h@unter2", "h:unter2", "h#unter2"])
def test_no_message_has_the_password(text: str, password: str) -> None:
    full = text.format(password)
    try:
        url = parse_url(full)
        shown = f"{url} {url!r} {url.address} {url.path}"
    except ConfigurationError as error:
        shown = f"{error} {error.__cause__}"
    assert "unter2" not in shown
    assert "unter2" not in without_password(full)


def test_the_text_of_a_url_names_the_login_without_the_password() -> None:
    text = "mqtt://me:secret@broker:1883/pump?qos=1"
    assert str(parse_url(text)) == text.replace("secret", "***")


@pytest.mark.parametrize(
    "text",
    ["serial:/dev/ttyACM0?baud=9600", "serial:?vid=2341", "socket://[::1]:7000", "stdin:",
     "replay:x?speed=2", "mqtt://me@broker:1883/a/b"],
)  # fmt: skip
def test_the_text_of_a_url_reads_back(text: str) -> None:
    assert str(parse_url(text)) == text


def test_a_baud_rate_of_the_url_goes_before_another() -> None:
    assert parse_url("/dev/ttyACM0").with_baud_rate(9600).baud_rate == 9600
    assert parse_url("/dev/ttyACM0?baud=1200").with_baud_rate(9600).baud_rate == 1200
    assert parse_url("/dev/ttyACM0").with_baud_rate(None).baud_rate is None
    assert parse_url("socket://host:1").with_baud_rate(9600).options == {}


@given(
    st.one_of(
        st.text(max_size=50),
        st.builds(
            "{}:{}{}".format,
            st.sampled_from(SCHEMES),
            st.sampled_from(["", "/", "//", "//host", "//h:1/", "//u:p@h/t"]),
            st.text(alphabet="abc:/?&=#@%[]+\0 1é", max_size=30),
        ),
    )
)
def test_any_text_is_a_url_or_a_configuration_error(text: str) -> None:
    try:
        url = parse_url(text)
    except ConfigurationError:
        return
    # What was accepted can be used without a further check.
    assert (url.usb, url.baud_rate, url.speed, url.qos, str(url)) is not None
