from __future__ import annotations

import pytest

from edgelstm.configuration.hosts import host_name
from edgelstm.dashboard.access import COOKIE_DAYS, Keeper, same_origin
from edgelstm.secret import Secret

RIGHT = "right"


class Clock:
    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


def keeper(token: str | None = RIGHT, clock: Clock | None = None) -> Keeper:
    return Keeper(None if token is None else Secret(token), clock or Clock())


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8765", "localhost"),
        ("LOCALHOST", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("", None),
        ("a b", None),
        ("evil.example:80@localhost", None),
        ("localhost/x", None),
        ("localhost:123456", None),
    ],
)
def test_host_name(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://pump:8765", True),
        ("HTTP://PUMP:8765", True),
        ("https://pump:8765", True),
        ("http://pump", False),
        ("http://evil.example", False),
        ("http://pump:8765.evil.example", False),
        ("null", False),
        ("file://pump:8765", False),
    ],
)
def test_same_origin(origin: str, same: bool) -> None:
    assert same_origin(origin, "pump:8765") is same


def test_without_a_token_everybody_is_let_in() -> None:
    assert keeper(None).accepts(None)
    assert not keeper(None).needs_token


def test_a_cookie_is_good_until_it_expires_and_for_its_token_only() -> None:
    clock = Clock()
    cookie = keeper(clock=clock).cookie()
    assert "right" not in cookie
    assert keeper(clock=clock).accepts(cookie)  # also after a restart
    assert not keeper("another", clock).accepts(cookie)
    clock.now += COOKIE_DAYS * 86_400 + 1
    assert not keeper(clock=clock).accepts(cookie)


@pytest.mark.parametrize("cookie", [None, "", ".", "x.y", "9999999999.", "ü.ü", "9999999999.abc"])
def test_other_cookies_are_not_good(cookie: str | None) -> None:
    assert not keeper().accepts(cookie)


def test_a_longer_life_cannot_be_written_into_a_cookie() -> None:
    expiry, _, signature = keeper().cookie().partition(".")
    assert not keeper().accepts(f"{int(expiry) + 1}.{signature}")


def test_whoever_guesses_has_to_wait_and_nobody_else() -> None:
    clock = Clock()
    door = keeper(clock=clock)
    for _ in range(5):
        assert not door.must_wait("10.0.0.1")
        assert not door.knows("wrong", "10.0.0.1")
    assert door.must_wait("10.0.0.1")
    assert not door.must_wait("10.0.0.2")
    clock.now += 61
    assert not door.must_wait("10.0.0.1")
    assert door.knows("right", "10.0.0.1")


def test_one_computer_with_many_ipv6_addresses_is_one() -> None:
    door = keeper()
    for number in range(5):
        door.knows("wrong", f"fe80::{number:x}%eth0")
    assert door.must_wait("fe80::9")
    assert not door.must_wait("fe80:0:0:1::1")


def test_what_is_remembered_of_guesses_is_bounded() -> None:
    door = keeper()
    for number in range(6000):
        door.knows("wrong", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(door._wrong) <= 4096


def test_a_token_that_is_no_ascii() -> None:
    assert keeper("schlüssel").knows("schlüssel", "a")
    assert not keeper().knows("schlüssel", "a")
