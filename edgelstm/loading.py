"""From a file to a session."""

from __future__ import annotations

from pathlib import Path

from edgelstm.artifact import Artifact
from edgelstm.backends import Delegate, Graph, Wiring
from edgelstm.backends.refusals import EDGE_TPU_OPERATION
from edgelstm.errors import ArtifactError
from edgelstm.model_file import read_model
from edgelstm.session import Session
from edgelstm.signing import TrustedKeys


def load(
    path: str | Path,
    backend: str = "auto",
    delegate: str | Delegate | None = None,
    threads: int = 1,
    *,
    verify: bool = False,
    invalid: str = "hold",
    hold_limit: int = 10,
    trusted: TrustedKeys | None = None,
) -> Session:
    """Opens an artifact for stepping.

    Args:
        path: a file made by `edgelstm quantize`, or a plain `.tflite` file whose signature names
            its states, see `edgelstm.plain`.
        backend: "auto", "litert", "tflite-runtime" or "tensorflow".
        delegate: "edgetpu", "edgetpu:usb:0" and the like, or the path of a delegate's library, see
            `edgelstm.backends.delegates`. It runs in a child process; while it fails, the CPU takes
            over with the states as they are (`DelegateWarning`, `Session.delegate_counters`).
        threads: threads the interpreter may use; one is best for small recurrent models.
        verify: whether to replay the golden vectors first; a plain file has none.
        invalid: what becomes of a reading with a value that is not finite: "hold", "skip" or
            "raise", see `Session`.
        hold_limit: after how many such readings in a row the states are reset.
        trusted: whose artifacts are accepted, such as `TrustedKeys.of([Path("key.pub.pem")])`; None
            for everybody's.

    Raises:
        ArtifactError: the file is no artifact or is damaged, or its golden vectors do not hold.
        SignatureError: nobody who is trusted signed it, or it was changed since.
        MissingDependencyError: no backend is installed, or nothing that checks a signature.
        BackendError: the backend cannot run the model.
        ConfigurationError: a setting makes no sense.
    """
    artifact = read_model(path, trusted)
    graph = None
    if delegate is not None:
        graph = _open_delegated(artifact, backend, delegate, threads)
    try:
        session = Session(
            artifact,
            backend=backend,
            threads=threads,
            invalid=invalid,
            hold_limit=hold_limit,
            graph=graph,
        )
        if verify and (first := session.check().first):
            raise ArtifactError(
                f"{path} does not give its golden vectors on this machine: the runtime "
                f"{session.backend} computes something else, first in {first}."
            )
    except BaseException:
        if graph:
            graph.close()  # a delegate's process would live as long as the error
        raise
    return session


def _open_delegated(
    artifact: Artifact, backend: str, delegate: str | Delegate, threads: int
) -> Graph:
    from edgelstm.backends.delegated import open_delegated  # few need it, and it costs a while

    operations = {operation.name for operation in artifact.manifest.operations}
    if EDGE_TPU_OPERATION in operations and artifact.cpu is None:
        raise ArtifactError(
            "This model is compiled for an Edge TPU and carries none for the CPU to fall back on: "
            "make it with 'edgelstm quantize --device coral-usb'."
        )
    return open_delegated(
        artifact.flatbuffer,
        Wiring.of(artifact.manifest),
        delegate,
        backend,
        threads,
        cpu_flatbuffer=artifact.cpu,
    )
