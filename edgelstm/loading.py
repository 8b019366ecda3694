"""From a file to a session."""

from __future__ import annotations

from pathlib import Path

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError
from edgelstm.session import Session


def load(
    path: str | Path,
    backend: str = "auto",
    delegate: str | None = None,
    threads: int = 1,
    *,
    verify: bool = False,
    invalid: str = "hold",
    hold_limit: int = 10,
) -> Session:
    """Opens an artifact for stepping.

    Args:
        path: a file made by `edgelstm quantize`.
        backend: "auto", "litert", "tflite-runtime" or "tensorflow".
        delegate: "edgetpu", "edgetpu:usb:0" and the like, or the path of a delegate's library.
        threads: threads the interpreter may use; one is best for small recurrent models.
        verify: whether to replay the golden vectors first.
        invalid: what becomes of a reading with a value that is not finite: "hold", "skip" or
            "raise", see `Session`.
        hold_limit: after how many such readings in a row the states are reset.

    Raises:
        ArtifactError: the file is no artifact or is damaged, or its golden vectors do not hold.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model.
        ConfigurationError: a setting makes no sense.
    """
    session = Session(
        Artifact.read(path),
        backend=backend,
        threads=threads,
        invalid=invalid,
        hold_limit=hold_limit,
    )
    if verify and (first := session.check().first):
        where = f"the runtime {session.backend} computes something else"
        session.close()
        raise ArtifactError(
            f"{path} does not give its golden vectors on this machine: {where}, first in {first}."
        )
    return session
