"""Keeps a delegate at work in a child process, and the CPU in its place while it fails.

The states stay here: a step in the child is a pure function, and one that fails is done again on
the CPU with the same inputs and states. No step is lost, and the first one after a failure waits
for its answer at most as long as a step may take.

A thread watches. When no step comes, it has the last one run again at each heartbeat, so that a
hang is found before the next step: a ping that leaves out the device would not find it. While the
answer is late, steps run on the CPU. After a failure the thread starts a new process, at first
after a second, then ever less often; that one takes over between two steps.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.backends.child import Block
from edgelstm.backends.graph import DelegateCounters, Graph
from edgelstm.backends.process import ChildError, ChildProcess, bury
from edgelstm.errors import BackendError, DelegateError, DelegateWarning

_GRACE = 0.1
"""Seconds that a step may wait for the answer to a heartbeat; a living delegate needs far less."""
_EAR = 0.01
"""Seconds between two looks at what the process printed, while a step has the lock."""
_TRIAL_STEPS = 3
_TOLERANCE = 1 / 16
"""How far a delegate's numbers may be from the CPU's, as a share of a tensor's range."""


@dataclass(frozen=True)
class Patience:
    """How long a delegate is waited for. All in seconds.

    Attributes:
        step: for the answer to a step.
        load: for it to be loaded and to give its first step: an Edge TPU takes its firmware first.
        heartbeat: between the last step and the first sign of life that is asked for.
        first_retry: from a failure to the next try.
        last_retry: to which that grows, doubling at each failure. A delegate that has served for
            as long is trusted again, and begins with `first_retry`.
    """

    step: float = 2.0
    load: float = 30.0
    heartbeat: float = 1.0
    first_retry: float = 1.0
    last_retry: float = 300.0


class Supervisor:
    """What the steps and the watching thread share.

    The lock guards it all, and is held for no longer than a step may take. The thread alone closes
    child processes: it may be waiting for what they say.
    """

    def __init__(
        self,
        load: bytes,
        library: str,
        cpu: Graph,
        messages: tuple[Block, Block],
        trial: tuple[Block, Block],
        patience: Patience,
    ) -> None:
        self.lock = threading.RLock()
        self.counters = DelegateCounters()
        self.closed = False
        self.forked = False
        _supervisors.add(self)
        self._load, self._library, self._cpu, self._patience = load, library, cpu, patience
        self._request, self._answer = messages
        self.inputs, self.states = self._request.groups
        self._trial = trial
        self._zeros = bytes(trial[0].parts[1])
        self._child: ChildProcess | None = None
        self._late = False  # the answer to a heartbeat
        self._failures: list[ChildProcess] = []
        self._warning: str | None = None
        self._since = self._retry_at = 0.0
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._thread: threading.Thread | None = None

    @property
    def serving(self) -> bool:
        """Whether a step would be sent to the delegate."""
        return self._child is not None and not self._late

    def begin(self, required: bool) -> None:
        """Loads the delegate, and begins to watch it."""
        try:
            self._serve_by(self._start(None))
        except ChildError as error:
            if required:
                raise DelegateError(f"The delegate {self._library} {error}.") from error
            self._fail(error)
        counters = self.counters
        if counters.delegated_operations == 0:
            self._warning = (
                f"The delegate {self._library} takes none of the {counters.operations} operations "
                "of this model, which run on the CPU of its process; compile the model for it, or "
                "leave the delegate out."
            )
        self._warn()
        self._thread = threading.Thread(target=self._watch, name="edgelstm-delegate", daemon=True)
        self._thread.start()

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """A step, here or there."""
        with self.lock:
            if self.closed:
                raise BackendError("This graph is closed.")
            if self.forked:
                raise BackendError(
                    "The delegate belongs to the process that forked this one; load the artifact "
                    "again here."
                )
            self._warn()
            for into, value in zip(self.inputs, inputs, strict=True):
                into[...] = value.reshape(into.shape)
            if self._child is not None and not self._late:
                try:
                    self._child.step(self._request, self._answer)
                except ChildError as error:
                    self._fail(error)
                except BaseException:
                    # Ctrl-C: its answer would be taken for that to the next step.
                    self._fail(ChildError("was interrupted in a step"))
                    raise
                else:
                    self._request.parts[1][:] = self._answer.parts[1]
                    self.counters.delegate_steps += 1
                    return [output.copy() for output in self._answer.groups[0]]
                self._warn()
            outputs, following = self._on_cpu(self._request)
            for state, value in zip(self.states, following, strict=True):
                state[...] = value
            self.counters.cpu_steps += 1
            return outputs

    def _on_cpu(self, request: Block) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        inputs, self._cpu.states = request.groups
        return self._cpu.run(inputs), self._cpu.states

    def _warn(self) -> None:
        """Says in the caller's thread what happened, where it is seen."""
        if self._warning is not None:
            text, self._warning = self._warning, None
            warnings.warn(text, DelegateWarning, stacklevel=4)

    def _fail(self, error: ChildError) -> None:
        """Goes on on the CPU."""
        counters = self.counters
        counters.fallbacks += 1
        if self._child is not None:
            self._failures.append(self._child)
            if time.monotonic() - self._since >= self._patience.last_retry:
                counters.retry_delay = 0.0
        self._child, self._late = None, False
        self._put_off()
        count = f" (failure {counters.fallbacks})" if counters.fallbacks > 1 else ""
        self._warning = (
            f"The delegate {self._library} {error}{count}; the steps go on on the CPU, and it is "
            f"tried again in {counters.retry_delay:g} s, then ever less often."
        )
        self._rouse()

    def _put_off(self) -> None:
        """Sets the time of the next try."""
        patience, counters = self._patience, self.counters
        delay = min(max(2 * counters.retry_delay, patience.first_retry), patience.last_retry)
        counters.retry_delay, self._retry_at = delay, time.monotonic() + delay

    def _start(self, interrupt: int | None) -> ChildProcess:
        """A process that has loaded the delegate and computes as the CPU does."""
        end = time.monotonic() + self._patience.load
        child = ChildProcess(self._load, self._patience.step, self._patience.load, interrupt)
        try:
            request, answer = self._trial
            request.parts[1][:] = self._zeros
            rng = np.random.default_rng(0)
            for _ in range(_TRIAL_STEPS):
                for value in request.groups[0]:
                    value[...] = _noise(value, rng)
                child.first_step(request, answer, end - time.monotonic(), interrupt)
                with self.lock:
                    expected = self._on_cpu(request)
                for group, wanted in zip(answer.groups, expected, strict=True):
                    if not all(map(_alike, group, wanted)):
                        raise ChildError("computes other numbers than the CPU")
                request.parts[1][:] = answer.parts[1]
        except BaseException as error:
            child.close()
            if isinstance(error, BackendError):
                raise ChildError(f"cannot be compared with the CPU ({error})") from error
            raise
        return child

    def _serve_by(self, child: ChildProcess) -> None:
        self.counters.operations = child.operations
        self.counters.delegated_operations = child.delegated
        self._since = time.monotonic()
        self._child = child

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"!")

    def _watch(self) -> None:
        """The thread: heartbeats, retries, and the end of child processes."""
        while True:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            with self._locked():
                if self.closed:
                    break
                child, steps = self._child, self.counters.delegate_steps
                failures, self._failures = self._failures, []
            for failure in failures:
                failure.close()
            bury()
            if child is not None:
                child.listen(self._patience.heartbeat, self._wake)
                self._beat(child, steps)
            elif (left := self._retry_at - time.monotonic()) > 0:
                select.select([self._wake], [], [], left)
            else:
                self._retry()
        self.end()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock, for the thread: the step that holds it may wait for what it prints to be read.

        Other threads have no need of this, as this one reads while they wait.
        """
        while not self.lock.acquire(timeout=_EAR):
            if child := self._child:
                child.hear()
        try:
            yield
        finally:
            self.lock.release()

    def _beat(self, child: ChildProcess, steps: int) -> None:
        """Has a child run its last step again, unless it ran another one meanwhile.

        A step that comes while the answer is late runs on the CPU, and waits for nothing.
        """
        patience = self._patience
        with self._locked():
            if self.closed or child is not self._child or steps != self.counters.delegate_steps:
                return
            try:
                child.send_beat()
                if child.wait(min(_GRACE, patience.step)):
                    child.receive_beat()
                    return
            except ChildError as error:
                self._fail(error)
                return
            self._late = True
        answered = child.wait(patience.step - _GRACE, self._wake)
        with self.lock:
            if self.closed:
                return
            try:
                if not answered:
                    raise ChildError(f"gave no sign of life within {patience.step:g} s")
                child.receive_beat()
                self._late = False
            except ChildError as error:
                self._fail(error)

    def _retry(self) -> None:
        self.counters.retries += 1
        try:
            child = self._start(self._wake)
        except ChildError:
            with self.lock:
                self._put_off()
            return
        with self.lock:
            self._serve_by(child)
            if self._warning is not None:
                self._warning += " It is back already."

    def close(self) -> None:
        """Ends, once, the thread, the child process and the graph on the CPU."""
        if self.forked:  # the first two are the parent's
            self.closed = True
            self._cpu.close()
            return
        with self.lock:  # until it is roused the thread must not end: it closes what rouses it
            self.closed = True
            self._rouse()
        if self._thread is None:
            self.end()
        # A graph that is forgotten may be closed by the thread itself.
        elif self._thread is not threading.current_thread():
            self._thread.join()

    def end(self) -> None:
        """What is left to do when nothing watches."""
        with self.lock:
            child, self._child = self._child, None
            if child is not None:
                child.close(gently=not self._late)
            for failure in self._failures:
                failure.close()
            self._cpu.close()
            os.close(self._wake)
            os.close(self._waker)


_supervisors: weakref.WeakSet[Supervisor] = weakref.WeakSet()


def _after_fork() -> None:
    """In a process that was forked: a lock that another thread had would be held for ever."""
    for supervisor in _supervisors:
        supervisor.lock = threading.RLock()
        supervisor.forked = True


os.register_at_fork(after_in_child=_after_fork)


def _noise(like: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Inputs that move a graph: tokens, which must be known ones, stay at 0."""
    if like.dtype in (np.int32, np.int64):
        return np.zeros_like(like)
    if like.dtype.kind in "iu":
        limits = np.iinfo(like.dtype)
        return rng.integers(limits.min, limits.max, like.shape, like.dtype, endpoint=True)
    return rng.normal(size=like.shape).astype(like.dtype)


def _alike(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Whether a delegate's numbers could be the CPU's, rounded otherwise."""
    if ours.dtype.kind in "iu":
        span = 2.0 ** (8 * ours.dtype.itemsize)
    else:
        span = max(1.0, float(np.abs(theirs).max(initial=0)))
    difference = np.abs(ours.astype(np.float64) - theirs)
    return bool(difference.mean() <= _TOLERANCE * span)  # NaN is not
