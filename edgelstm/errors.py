"""The error tree: every error that edgelstm raises on purpose is an `EdgelstmError`.

Each class also inherits the builtin that a caller who never heard of edgelstm would catch.
The message is one sentence that says whose fault it is and what to do next; the command
line prints it as it stands and exits with code 2.
"""

from __future__ import annotations


class EdgelstmError(Exception):
    """Base of every error that edgelstm raises on purpose."""


class RecordingError(EdgelstmError, ValueError):
    """A recording (CSV file) cannot be used: its text, its columns or its length."""


class ModelError(EdgelstmError, ValueError):
    """A Keras model cannot be read or cannot be turned into a step graph."""


class CannotStreamError(ModelError):
    """A layer of a Keras model cannot run one step at a time; a window of readings may do."""


class ConversionError(EdgelstmError, RuntimeError):
    """A model was understood but its conversion failed or lost too much fidelity."""


class ArtifactError(EdgelstmError, ValueError):
    """A `.tflite` file is damaged, is not an artifact, or has an unknown schema version."""


class BackendError(EdgelstmError, RuntimeError):
    """No backend can run the artifact on this machine."""


class UnfitRuntimeError(BackendError):
    """A TFLite runtime is installed, but not with what it needs (numpy 1)."""


class SourceError(EdgelstmError, OSError):
    """A source of readings (a serial port) cannot be opened or went away."""


class ProtocolError(EdgelstmError, ValueError):
    """Bytes on the wire do not follow the protocol (bad COBS, bad CRC, bad payload)."""


class ConfigurationError(EdgelstmError, ValueError):
    """A setting has a value that makes no sense, or does not fit the artifact."""


class ReadingError(ConfigurationError):
    """A reading does not fit the model: its shape, its type, or a value that is not finite."""


class StateError(ConfigurationError):
    """A saved state is damaged, or of another model."""


class DelegateError(BackendError):
    """A delegate cannot be loaded, failed or did not answer in time."""


class OutputExistsError(EdgelstmError, FileExistsError):
    """The output file exists already and overwriting was not asked for."""


class MissingDependencyError(EdgelstmError, ImportError):
    """An optional package is not installed; the message has the pip command."""


class CalibrationWarning(UserWarning):
    """Calibration data will do, but more or other data would give a better model.

    A warning, no error: it is shown by `warnings.warn` to those who use edgelstm as a library.
    """


class DelegateWarning(RuntimeWarning):
    """A delegate failed, and the steps go on on the CPU."""


class SinkError(EdgelstmError, OSError):
    """A receiver of alerts cannot be reached or did not take one; it is tried again."""


class RefusedNoticeError(SinkError):
    """A receiver of alerts will never take this one; it is not tried again."""


class OutboxError(EdgelstmError, OSError):
    """The file of the outbox cannot be opened or is damaged."""


class DeploymentError(EdgelstmError, RuntimeError):
    """A device cannot be reached, does not do what a deployment needs, or refuses it."""


class SignatureError(ArtifactError):
    """An artifact is not signed by anybody who is trusted, or a key cannot be used."""
