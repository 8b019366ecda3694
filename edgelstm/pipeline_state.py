"""The state of a pipeline as a value: kept, set again, and saved as bytes.

Scorers, thresholds, rules and so on each have a state of their own: a frozen dataclass of numbers,
texts, tuples and the like. Here they are plain data, as JSON holds them; what they are of is known
where they are set again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import types
import typing
import zipfile
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from edgelstm.errors import StateError
from edgelstm.manifest import Detection
from edgelstm.state import DAMAGE, State

T = TypeVar("T")

_VERSION = 2
_SESSION, _REST = "session.npz", "pipeline.json"
_DAMAGED = "These bytes are not the state of a pipeline, or are damaged; start afresh."


@dataclass(frozen=True)
class PipelineState:
    """What a pipeline remembers after a reading: a value, which can be set again later.

    Attributes:
        session: the states of the model.
        rest: everything else, as canonical JSON.
    """

    session: State
    rest: str

    def save(self) -> bytes:
        """The state as bytes: a ZIP archive of some kilobytes; the same state, the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in ((_SESSION, self.session.save()), (_REST, self.rest.encode())):
                # Without a time of its own the entry would have the present one.
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()

    @classmethod
    def load(cls, data: bytes) -> PipelineState:
        """Reads what `save` gave. Of which artifact it is, is checked when it is set.

        Raises:
            StateError: the bytes are damaged, no state, or of another version.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                session, rest = archive.read(_SESSION), archive.read(_REST).decode()
            version = json.loads(rest)["version"]
        except DAMAGE as error:
            raise StateError(_DAMAGED) from error
        if version != _VERSION:
            raise StateError(
                f"This state of a pipeline has version {version!r}, and this edgelstm knows "
                f"version {_VERSION}: install the edgelstm that saved it, or start afresh."
            )
        return cls(State.load(session), rest)


def pack(session: State, detection: Detection, parts: dict[str, Any]) -> PipelineState:
    """A state from the parts of a pipeline.

    Args:
        session: the states of the model.
        detection: what the pipeline was calibrated to; scores of another do not compare.
        parts: by name: what they remember, as dataclasses, tuples, numbers and the like.
    """
    plain = {name: to_plain(value) for name, value in parts.items()}
    whole = {"version": _VERSION, "detection": _fingerprint(detection), "parts": plain}
    return PipelineState(session, json.dumps(whole, sort_keys=True, separators=(",", ":")))


def unpack(state: PipelineState, detection: Detection, kinds: dict[str, Any]) -> dict[str, Any]:
    """The parts of a state, as `pack` took them.

    Args:
        state: what `pack` or `PipelineState.load` gave.
        detection: of the pipeline that takes it.
        kinds: by name: of what type each part is.

    Raises:
        StateError: it is of another calibration, or its parts are not of these types.
    """
    if not isinstance(state, PipelineState):
        raise StateError(
            "A state is what pipeline.state or PipelineState.load gave, and nothing else."
        )
    whole = json.loads(state.rest)
    if whole.get("detection") != _fingerprint(detection):
        raise StateError(
            "This state belongs to another artifact or calibration, whose scores do not compare "
            "with the ones of this; start afresh."
        )
    parts = whole.get("parts")
    try:
        if parts.keys() != kinds.keys():
            raise LookupError("other parts")
        return {name: from_plain(kind, parts[name]) for name, kind in kinds.items()}
    except _UNFIT as error:
        raise StateError(
            "This state belongs to a pipeline with another scorer or threshold; choose the same "
            "ones again, or start afresh."
        ) from error


_UNFIT = (LookupError, TypeError, ValueError, AttributeError)


@functools.lru_cache(maxsize=8)
def _fingerprint(detection: Detection) -> str:
    text = json.dumps(dataclasses.asdict(detection), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def to_plain(value: Any) -> Any:
    """A frozen value of dataclasses, named tuples, tuples, dicts, enums and numbers as plain data.

    Raises:
        TypeError: it holds something else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    raise TypeError(f"{type(value).__name__} is nothing that a state may hold")


def from_plain(kind: type[T], value: Any) -> T:
    """What `to_plain` was given, from plain data and the type that it was.

    Raises:
        LookupError, TypeError, ValueError: the data are of another type.
    """
    built: T = _from_plain(kind, value)
    return built


def _from_plain(kind: Any, value: Any) -> Any:
    if kind in _SIMPLE:
        return _need(value, kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (other,) = (kind for kind in arguments if kind is not type(None))
        return _from_plain(other, value)
    if origin is tuple:
        if arguments[1:] == (...,) and arguments[0] in _SIMPLE:  # of thousands, maybe
            return tuple(_need(item, arguments[0]) for item in _need(value, list))
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(_from_plain(k, v) for k, v in zip(kinds, _need(value, list), strict=True))
    if origin is dict:
        return {name: _from_plain(arguments[1], v) for name, v in _need(value, dict).items()}
    if dataclasses.is_dataclass(kind):
        if _need(value, dict).keys() != {field.name for field in dataclasses.fields(kind)}:
            raise LookupError(f"not the fields of {kind}")
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        return kind(**{name: _from_plain(hints[name], v) for name, v in value.items()})  # type: ignore[operator]  # mypy sees the class and its instances
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named tuple
        hints = _hints(kind)
        fields = zip(hints.values(), _need(value, list), strict=True)
        return kind(*(_from_plain(k, v) for k, v in fields))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return _need(value, kind)


_SIMPLE = (float, int, bool, str)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _need(value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:  # a number that was given as a whole one
        return value
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind}")
    return value
