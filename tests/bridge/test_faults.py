from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.faults import Faults, LineNoise

ALL = "drop=0.2%,garble=2000ppm,hang=500:3,restart=1000,unplug=2000:1,lose=10,damage=7,seed=1"


def noise(faults: Faults, seed: int = 1) -> LineNoise:
    return LineNoise(faults, Random(seed))  # noqa: S311 - noise, no secrets


# The text


def test_all_of_them() -> None:
    assert Faults.parse(ALL) == Faults(
        drop=0.002,
        garble=0.002,
        hang=500,
        hang_seconds=3.0,
        restart=1000,
        unplug=2000,
        unplug_seconds=1.0,
        lose=10,
        damage=7,
        seed=1,
    )


@pytest.mark.parametrize("text", ["drop=0.002", "drop=0.2%", "drop=2000ppm", " drop = 0.2% "])
def test_shares(text: str) -> None:
    assert Faults.parse(text) == Faults(drop=0.002)


def test_times_may_be_left_out() -> None:
    assert Faults.parse("hang=5,unplug=6") == Faults(hang=5, unplug=6)
    assert Faults.parse("hang=5:0.25").hang_seconds == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no fault; write them as in drop="),
        ("bang=5", "'bang=5' is no fault"),
        ("drop", "'drop' is no fault"),
        ("hang_seconds=3", "'hang_seconds=3' is no fault"),
        ("drop=1%,", "'' is no fault"),
        ("drop=1%,drop=2%", "fault drop is given twice"),
        ("drop=much", "'much' makes no sense for the fault drop"),
        ("drop=", "'' makes no sense for the fault drop"),
        ("drop=100%", "drop is a share of the bytes from 0 to below 100%, not 1"),
        ("garble=-1ppm", "garble is a share"),
        ("garble=nan", "garble is a share"),
        ("lose=0", "'0' makes no sense for the fault lose"),
        ("damage=1.5", "'1.5' makes no sense for the fault damage"),
        ("hang=-5:1", "'-5:1' makes no sense for the fault hang"),
        ("hang=5:", "'5:' makes no sense for the fault hang"),
        ("hang=5:0", "hang lasts a time above 0 seconds, not 0"),
        ("unplug=5:inf", "unplug lasts a time above 0 seconds, not inf"),
        ("seed=x", "'x' makes no sense for the fault seed"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Faults.parse(text)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_negative_period_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"every N readings: N cannot be -1"):
        Faults(restart=-1)


# When faults come


def test_how_many_readings_are_left() -> None:
    faults = Faults(hang=4, restart=10, unplug=6)
    assert [faults.until_next(sent) for sent in range(8)] == [4, 3, 2, 1, 2, 1, 2, 1]
    assert faults.until_next(12) == 4
    assert Faults(lose=2, damage=3).until_next(7) is None


# The noise


def test_a_silent_line_changes_nothing() -> None:
    line = noise(Faults())
    assert line.silent
    assert line.apply(b"abc\0") == (b"abc\0", False)


@given(
    st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\0", b"\1") + b"\0"), max_size=80),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.integers(0, 1000),
)
def test_what_is_not_hit_is_found_whole_between_its_delimiters(
    frames: list[bytes], drop: float, garble: float, seed: int
) -> None:
    line = noise(Faults(drop=drop, garble=garble), seed)
    out, unharmed = b"", []
    for frame in frames:
        damaged, hit = line.apply(frame)
        if not hit:
            assert damaged == frame
            unharmed.append(frame[:-1])
        out += damaged
    arrived = Counter(out.split(b"\0"))
    assert not Counter(unharmed) - arrived


def test_a_lost_or_garbled_delimiter_hits_the_next_frame_as_well() -> None:
    for faults in (Faults(drop=0.2), Faults(garble=0.2)):
        line = noise(faults)
        hits = [line.apply(b"\0")[1] for _ in range(1000)]
        alone = noise(faults)
        damaged = [alone.apply(b"\0")[0] != b"\0" for _ in range(1000)]
        assert hits == [d or before for d, before in zip(damaged, [False, *damaged], strict=False)]


def test_nothing_runs_into_what_comes_after_a_cut() -> None:
    cut_and_spared = 0
    for seed in range(100):
        line, other = noise(Faults(drop=0.5), seed), noise(Faults(drop=0.5), seed)
        if not line.apply(b"\0")[0] and not other.apply(b"\0")[0]:
            line.cut()
            (frame, hit), (_, would_be_hit) = line.apply(b"\0"), other.apply(b"\0")
            assert would_be_hit
            assert hit == (frame != b"\0")
            cut_and_spared += not hit
    assert cut_and_spared


def test_a_frame_that_is_not_there_is_not_hit() -> None:
    line = noise(Faults(drop=0.999))
    assert line.apply(b"ab\0") != (b"ab\0", False)
    assert line.apply(b"") == (b"", False)


def test_as_many_bytes_are_hit_as_was_asked_for() -> None:
    size = 1_000_000
    data = bytes(size)
    dropped, _ = noise(Faults(drop=0.002)).apply(data)
    assert abs(size - len(dropped) - 2000) < 200  # more than four standard deviations
    garbled, _ = noise(Faults(garble=0.002)).apply(data)
    changed = [byte for byte in garbled if byte]
    assert abs(len(changed) - 2000) < 200
    assert all(byte.bit_count() == 1 for byte in changed)
    assert len(set(changed)) == 8


def test_the_size_of_the_pieces_changes_nothing() -> None:
    data = bytes(range(1, 256)) * 20
    faults = Faults(drop=0.01)
    whole, _ = noise(faults).apply(data)
    line = noise(faults)
    assert whole == b"".join(line.apply(data[i : i + 7])[0] for i in range(0, len(data), 7))


def test_a_seed_gives_the_same_noise_and_another_one_another() -> None:
    data = bytes(10_000)
    faults = Faults(drop=0.01, garble=0.01)
    assert noise(faults, 1).apply(data) == noise(faults, 1).apply(data)
    assert noise(faults, 1).apply(data) != noise(faults, 2).apply(data)
