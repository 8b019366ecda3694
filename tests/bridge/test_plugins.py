from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from edgelstm.errors import ConfigurationError, SourceError
from edgelstm_bridge.links import Link, LinkEnded, LinkLost
from edgelstm_bridge.plugins import find_plugin, plugin_schemes
from edgelstm_bridge.sources import open_source
from edgelstm_bridge.urls import parse_url

SOURCE = """
from edgelstm.errors import SourceError
from edgelstm_bridge.links import Chunk, Link, LinkEnded


class Counting(Link):
    def __init__(self, url):
        self.description = f"counter {url.path}"
        self._left = int(url.options.get("count", "1"))

    def read(self, timeout):
        if not self._left:
            raise LinkEnded("counted down")
        self._left -= 1
        return Chunk(b"%d\\n" % self._left, 1.0, 2.0)

    def close(self):
        pass


def number(url):
    return 42


def unplugged(url):
    raise OSError(6, "No such device or address")


def refused(url):
    raise SourceError("The sensor does not answer.")


def broken(url):
    return 1 / 0


class Careless(Counting):
    def read(self, timeout):
        if self._left == 1:
            return [].pop()
        return super().read(timeout)


class Gone(Counting):
    def read(self, timeout):
        if self._left == 1:
            raise OSError(121, "Remote I/O error")
        return super().read(timeout)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, name: str, source: str = SOURCE, **entries: str) -> None:
    """Puts a distribution where Python finds it, as pip would."""
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{scheme} = {module}:{target}" for scheme, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[edgelstm.sources]", *lines, ""]))
    sys.modules.pop(module, None)
    importlib.invalidate_caches()


def opened(text: str) -> object:
    url = parse_url(text, plugin_schemes())
    return find_plugin(url.scheme).open(url, (Link,))


def failed(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        opened(text)
    return str(caught.value)


def test_a_plug_in_brings_a_scheme(site: Path) -> None:
    install(site, "edgelstm-counter", counter="Counting")
    assert "counter" in plugin_schemes()
    assert find_plugin("counter").distribution == "edgelstm-counter"
    link = opened("counter:up?count=2")
    assert isinstance(link, Link)
    assert link.description == "counter up"
    assert [link.read(0)[0], link.read(0)[0]] == [b"1\n", b"0\n"]  # type: ignore[index]
    with pytest.raises(LinkEnded):
        link.read(0)
    link.write(b"nobody hears this")


def test_finding_a_plug_in_imports_nothing(site: Path) -> None:
    install(site, "edgelstm-loud", source="raise RuntimeError('imported')", loud="x")
    assert "loud" in plugin_schemes()
    find_plugin("loud")


def test_a_plug_in_that_cannot_be_imported_is_named(site: Path) -> None:
    install(site, "edgelstm-loud", source="raise RuntimeError('no i2c here')", loud="x")
    assert failed("loud:1") == (
        "The plug-in edgelstm-loud, which brings loud:, cannot be loaded "
        "(RuntimeError: no i2c here): repair it or uninstall it."
    )
    install(site, "edgelstm-absent", absent="there_is_none")
    assert "edgelstm-absent" in failed("absent:1")


def test_a_plug_in_that_gives_something_else_is_named(site: Path) -> None:
    install(site, "edgelstm-odd", odd="number", broken="broken", none="SOURCE")
    assert failed("odd:1") == (
        "The plug-in edgelstm-odd, which brings odd:, returned a int instead of a Link: "
        "tell its author."
    )
    assert "edgelstm-odd" in failed("broken:1")
    assert "ZeroDivisionError" in failed("broken:1")
    assert "edgelstm-odd" in failed("none:1")


def test_a_plug_in_may_fail_to_open_its_source(site: Path) -> None:
    install(site, "edgelstm-far", unplugged="unplugged", refused="refused")
    with pytest.raises(SourceError, match=r"^unplugged: cannot be opened: .*No such device"):
        opened("unplugged:1")
    with pytest.raises(SourceError, match=r"^The sensor does not answer\.$"):
        opened("refused:1")


def test_a_plug_in_cannot_take_a_scheme_of_ours(site: Path) -> None:
    install(site, "edgelstm-thief", serial="Counting", SERIAL="Counting")
    assert "serial" not in plugin_schemes()
    with pytest.raises(ConfigurationError, match="No plug-in brings serial:"):
        find_plugin("serial")
    assert parse_url("serial:x", plugin_schemes()).path == "x"


def test_two_plug_ins_with_one_scheme_are_named(site: Path) -> None:
    install(site, "edgelstm-one", same="Counting")
    install(site, "edgelstm-two", same="Counting")
    assert failed("same:1") == (
        "edgelstm-one and edgelstm-two both bring same: - uninstall all but one."
    )


SMBUS2 = """
class SMBus:
    def __init__(self, number):
        if number != 1:
            raise FileNotFoundError(2, "No such file or directory")
        self.awake = self.pulled = False

    def write_byte_data(self, address, register, value):
        self.awake = (address, register, value) == (0x68, 0x6B, 0)

    def read_i2c_block_data(self, address, register, length):
        if self.pulled:
            raise OSError(121, "Remote I/O error")
        assert self.awake and (address, register, length) == (0x68, 0x3B, 6)
        return [0x40, 0, 0xC0, 0, 0, 0]

    def close(self):
        pass
"""


def test_the_documented_plug_in_works(site: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/sources.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (block for block in blocks if "Mpu6050" in block)
    (site / "smbus2.py").write_text(SMBUS2)  # a stand-in: not every machine has an I2C bus
    install(site, "edgelstm-mpu6050", example, i2c="Mpu6050")
    link = opened("i2c:1?address=0x68")
    assert isinstance(link, Link)
    with link:
        for line in (b"x,y,z\n1.0000,-1.0000,0.0000\n", b"1.0000,-1.0000,0.0000\n"):
            chunk = link.read(1)
            assert chunk is not None
            assert chunk.data == line
        vars(link)["_bus"].pulled = True
        with pytest.raises(LinkLost, match="Lost i2c bus 1"):
            link.read(1)
    with pytest.raises(SourceError, match="No MPU-6050 answers on i2c bus 2"):
        opened("i2c:2")
    del sys.modules["smbus2"]


def test_a_plug_in_that_is_not_there_is_not_found() -> None:
    with pytest.raises(ConfigurationError, match="No plug-in brings i2c:"):
        find_plugin("i2c")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            "Careless",
            ConfigurationError,
            r"The plug-in edgelstm-count, which brings count:, failed \(IndexError: .*its author",
        ),
        ("Gone", LinkLost, "Lost counter .*Remote I/O error"),
    ],
)
def test_a_plugin_that_fails_while_it_is_read(
    site: Path, kind: str, error: type[Exception], message: str
) -> None:
    install(site, "edgelstm-count", count=kind)
    text = "csv:delimiter=comma,header=no,decimal=point,columns=a,channels=a,time=no,checksum=no"
    with open_source("count:9?count=9", format=text, reconnect=False) as source:
        with pytest.raises(error, match=message):
            list(source)
        assert source.counters.readings == 7  # the first line may have been cut
