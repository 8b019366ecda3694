"""The state of a session as a value: kept, set again, and saved as bytes."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StateError
from edgelstm.manifest import Manifest

ANOTHER_MODEL = "This state belongs to another model."
_VERSION = 1
_KEPT, _LAST, _ABOUT = "kept/", "last/", "about"
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    LookupError,
    TypeError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
)
"""All that zipfile, numpy and json raise on damaged bytes."""


class State(Mapping[str, NDArray[Any]]):
    """What a session remembers after a step, as arrays by name.

    Of a stream its raw states, each (1, units); of a window the raw readings in it, oldest first,
    and under "due" in how many readings it runs. It is of one model only, and knows of which.

    Args:
        arrays: see above.
        sha256: of the model's flatbuffer.
        last: the last raw reading of each input, (channels,), which stands in for values that are
            missing; None when there was none since the reset.
        held: for how many readings in a row something stood in.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        sha256: str,
        last: Mapping[str, NDArray[Any]] | None,
        held: int,
    ) -> None:
        self._arrays = dict(arrays)
        self.sha256 = sha256
        self.last = last
        self.held = held

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self._content() == other._content()

    def _content(self) -> tuple[object, ...]:
        kept, last = (
            None
            if arrays is None
            else {n: (v.dtype, v.shape, v.tobytes()) for n, v in arrays.items()}
            for arrays in (self._arrays, self.last)
        )
        return self.sha256, kept, last, self.held

    def __repr__(self) -> str:
        return f"<State of model {self.sha256[:8]}: {', '.join(self._arrays) or 'nothing'}>"

    def save(self) -> bytes:
        """The state as bytes: a NumPy archive, a kilobyte and some 450 bytes per array more."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {_KEPT + name: value for name, value in self.items()}
        arrays |= {_LAST + name: value for name, value in (self.last or {}).items()}
        arrays[_ABOUT] = np.array([str(_VERSION), self.sha256, str(self.held)])
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def load(cls, data: bytes) -> State:
        """Reads what `save` gave. Of which model it is, is checked when it is set.

        Raises:
            StateError: the bytes are damaged, no state, or of another version.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            version, sha256, held = map(str, arrays.pop(_ABOUT))
            count = int(held)
        except DAMAGE as error:
            raise StateError(
                "These bytes are not the state of a session, or are damaged; start afresh."
            ) from error
        if version != str(_VERSION):
            raise StateError(
                f"This state has version {version}, and this edgelstm knows version {_VERSION}: "
                "install the edgelstm that saved it, or start afresh."
            )
        kept, last = (
            {name.removeprefix(part): v for name, v in arrays.items() if name.startswith(part)}
            for part in (_KEPT, _LAST)
        )
        return cls(kept, sha256, last or None, count)


class StateLayout:
    """What the state of a model looks like.

    Args:
        manifest: of the model.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._sha256 = manifest.sha256
        self._window = manifest.window is not None
        self._states = [pair.input for pair in manifest.states]
        self._inputs = {port.tensor.name: port for port in manifest.inputs}

    def zero(self) -> dict[str, NDArray[Any]]:
        """The raw values that stand for zero in every state, each (1, units)."""
        return {s.name: np.full(s.shape, s.zero_point, s.dtype) for s in self._states}

    def pack(
        self,
        states: Sequence[NDArray[Any]],
        window: Mapping[str, NDArray[Any]],
        last: Sequence[NDArray[Any]] | None,
        held: int,
    ) -> State:
        """A state from raw states in the manifest's order, or of a window from what it holds."""
        names = [spec.name for spec in self._states]
        kept = dict(zip(names, states, strict=True)) | dict(window)
        if last is None:
            return State(kept, self._sha256, None, held)
        copies = {name: v.copy() for name, v in zip(self._inputs, last, strict=True)}
        return State(kept, self._sha256, copies, held)

    def unpack(self, state: State) -> tuple[list[NDArray[Any]], list[NDArray[Any]] | None]:
        """Raw states in the manifest's order, and a copy of the last raw reading.

        What a window holds is left to `Windows` to check.

        Raises:
            StateError: it is of another model.
        """
        if not isinstance(state, State):
            raise StateError("A state is what session.state or State.load gave, and nothing else.")
        own = state.sha256 == self._sha256 and (
            self._window
            or (
                state.keys() == {s.name for s in self._states}
                and all(_fits(state[s.name], s.shape, s.dtype) for s in self._states)
            )
        )
        last = state.last
        if last is not None:
            own = own and last.keys() == self._inputs.keys()
            own = own and all(
                _fits(last[name], (len(port.channels),), port.tensor.dtype)
                for name, port in self._inputs.items()
            )
        if not own or not 0 <= state.held < 2**63:
            raise StateError(ANOTHER_MODEL)
        kept = [state[s.name] for s in self._states]
        return kept, None if last is None else [last[name].copy() for name in self._inputs]


def _fits(value: NDArray[Any], shape: tuple[int, ...], dtype: str) -> bool:
    return value.shape == shape and value.dtype == dtype
