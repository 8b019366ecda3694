"""What is sent of SOURCE: a run configuration or an artifact, made ready for another computer."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgelstm.artifact import Artifact
from edgelstm.calibration_file import calibration_path, with_calibration
from edgelstm.configuration import RunSettings, read_settings
from edgelstm.configuration.locate import locate
from edgelstm.configuration.problems import Problems
from edgelstm.configuration.toml_text import format_value
from edgelstm.errors import ConfigurationError
from edgelstm.model_file import read_model
from edgelstm_devices.elsewhere import FilePlace, look_through
from edgelstm_devices.release import Mode, StoredFile
from edgelstm_devices.toml_edit import Place, replace_texts

CONFIGURATION = ".toml"
LARGEST_MODEL = 256_000_000
"""Bytes; a recurrent model for a small computer has some hundred thousand."""
LARGEST_OTHER = 1_000_000

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # as `agent.layout` has it
_RESERVED = ("release.json", "runtime")  # beside which the files lie, see `agent.layout`


@dataclass(frozen=True)
class Options:
    """What a configuration that is made for an artifact says besides.

    Attributes:
        port: where the readings come from.
        baud_rate: of the port; None for the usual one.
        format: what the device sends, see docs/text-formats.md.
        rate: what to do at a wrong rate: "refuse", "resample", "any" or "set".
        delegate: what else is to compute, such as "edgetpu"; "" for nothing.
    """

    port: str | None = None
    baud_rate: int | None = None
    format: str = "auto"
    rate: str = "refuse"
    delegate: str = ""


@dataclass(frozen=True)
class Shipment:
    """The files of a release but the runtime.

    Attributes:
        configuration: name of the run configuration, NAME.toml for the service NAME.
        text: of it, as it is sent.
        files: all others, by the names that they have in the release's folder.
        models: the artifacts among them.
        ports: where the readings come from, one for each source.
        delegates: what else is to compute, without repetitions.
    """

    configuration: str
    text: str
    files: Mapping[str, Path]
    models: Mapping[str, Artifact]
    ports: tuple[str, ...]
    delegates: tuple[str, ...]


def service_name(source: Path) -> str:
    """The name of a service that is given none: that of the file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", source.stem).strip("-_")[:64] or "edgelstm"


def check_service(name: str) -> None:
    """Checks the name of a service.

    Raises:
        ConfigurationError: no service can be called so.
    """
    if not _SERVICE.fullmatch(name):
        raise ConfigurationError(
            f"A service cannot be called {name!r}: letters, digits, '_', '.' and '-' will do, "
            "at most 64 of them."
        )


def read_shipment(
    source: Path, service: str, *, mode: Mode = "system", options: Options | None = None
) -> Shipment:
    """Reads SOURCE and everything that it names.

    A configuration keeps its comments; only the paths of files that are sent are changed. Secrets
    are not sent: `{ file = ... }` stays a path on the device.

    Args:
        source: a run configuration, which ends in .toml, or an artifact.
        service: name of the service.
        mode: of the installation, for hints.
        options: for an artifact. Of a configuration only the port can be changed, if it has one
            source.

    Raises:
        ConfigurationError: the configuration has a mistake, something in it cannot be on a device,
            or the service cannot be called so.
        ArtifactError: an artifact or a calibration is damaged, or none.
    """
    check_service(service)
    given = options or Options()
    if source.suffix == CONFIGURATION:
        return _of_configuration(source, service, mode, given)
    return _of_artifact(source, service, given)


def _of_artifact(source: Path, service: str, options: Options) -> Shipment:
    if not options.port:
        raise ConfigurationError(
            "It is not known where the readings come from; say it with --port, such as --port "
            "/dev/ttyACM0, or give a run configuration."
        )
    files = _Files(f"{service}{CONFIGURATION}")
    name = files.artifact(source, calibrated=True)
    lines = [
        f"# Made by edgelstm deploy from {name}. For a configuration of your own, with sinks for",
        f"# the alerts: edgelstm run {name} --port ... --write-config {service}.toml",
        "",
        "[sources.device]",
        f"port = {format_value(options.port)}",
        *([] if options.baud_rate is None else [f"baud_rate = {options.baud_rate}"]),
        *([] if options.format == "auto" else [f"format = {format_value(options.format)}"]),
        "",
        f"[sensors.{service_name(source)}]",
        f"artifact = {format_value(name)}",
        *([] if options.rate == "refuse" else [f"rate = {format_value(options.rate)}"]),
        *([f"delegate = {format_value(options.delegate)}"] if options.delegate else []),
    ]
    text = "\n".join(lines) + "\n"
    delegates = (options.delegate,) if options.delegate else ()
    return Shipment(
        files.configuration, text, files.paths, files.models, (options.port,), delegates
    )


def _of_configuration(source: Path, service: str, mode: Mode, options: Options) -> Shipment:
    if options != Options(port=options.port):
        raise ConfigurationError(
            f"{source} says itself how its readings come and what computes; put that into the file."
        )
    settings = read_settings(source, environ={}, elsewhere=True)
    _check_size(source, LARGEST_OTHER)
    text = source.read_bytes().decode("utf-8-sig")
    data = tomllib.loads(text)
    problems = Problems(str(source), locate(text))
    found = look_through(data, service, mode, problems)
    files = _Files(f"{service}{CONFIGURATION}")
    changes: dict[Place, str] = dict(_shipped(found, source.absolute().parent, files, problems))
    problems.refuse()
    for name, sensor in settings.sensors.items():
        changes["sensors", name, "artifact"] = files.artifact(
            sensor.artifact, calibrated=sensor.calibration
        )
    ports = {name: each.port for name, each in settings.sources.items()}
    if options.port is not None:
        changes["sources", _only_source(source, settings), "port"] = options.port
        ports = dict.fromkeys(ports, options.port)
    delegates = dict.fromkeys(s.delegate for s in settings.sensors.values() if s.delegate)
    return Shipment(
        files.configuration,
        replace_texts(text, changes),
        files.paths,
        files.models,
        tuple(ports.values()),
        tuple(delegates),
    )


def _only_source(source: Path, settings: RunSettings) -> str:
    if len(settings.sources) != 1:
        raise ConfigurationError(
            f"{source} has several sources, {', '.join(settings.sources)}, so that --port could "
            "mean each of them; write the ports into the file."
        )
    return next(iter(settings.sources))


def _shipped(
    found: Iterable[FilePlace], folder: Path, files: _Files, problems: Problems
) -> Iterable[tuple[Place, str]]:
    """The names that files beside the configuration have in the release."""
    for each in found:
        path = folder / each.path
        if path.is_file():
            yield each.place, files.other(path)
        else:
            keys = tuple(key for key in each.place if isinstance(key, str))
            problems.about(keys, f"names {path}, which is no file")


class _Files:
    """The files of a release, all in one folder.

    Args:
        configuration: the name of one that is there already.
    """

    def __init__(self, configuration: str) -> None:
        self.configuration = configuration
        self.paths: dict[str, Path] = {}
        self.models: dict[str, Artifact] = {}
        self._names: dict[tuple[str, ...], str] = {}  # by the content
        self._stems = {Path(name).stem for name in (configuration, *_RESERVED)}
        # The model may be called as the service, for their names end otherwise.
        self._stems.discard(Path(configuration).stem)

    def artifact(self, path: Path, *, calibrated: bool) -> str:
        """Takes an artifact, and a calibration that lies beside it; gives its name."""
        _check_size(path, LARGEST_MODEL)
        model = read_model(path)
        calibration = calibration_path(path)
        has_calibration = calibrated and calibration.exists()
        if has_calibration:
            _check_size(calibration, LARGEST_MODEL)
            with_calibration(model, path)
        beside = StoredFile.of(calibration).sha256 if has_calibration else ""
        # One that is used with its calibration and without is sent once.
        key = (StoredFile.of(path).sha256, beside)
        name = self._name(path, key)
        self.paths[name] = path
        self.models[name] = model
        if has_calibration:
            self.paths[calibration_path(name).name] = calibration
        return name

    def other(self, path: Path) -> str:
        """Takes another file; gives its name."""
        _check_size(path, LARGEST_OTHER)
        name = self._name(path, (StoredFile.of(path).sha256,))
        self.paths[name] = path
        return name

    def _name(self, path: Path, key: tuple[str, ...]) -> str:
        """A name that no other content has; of two of one name the second gets a number."""
        if key not in self._names:
            safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.name).lstrip(".-") or "file"
            stem, suffix = Path(safe).stem[:48], Path(safe).suffix[:16]
            number, unique = 1, stem
            while self._is_taken(unique) or f"{unique}{suffix}" == self.configuration:
                number += 1
                unique = f"{stem}-{number}"
            self._stems |= _stems_of(unique)
            self._names[key] = f"{unique}{suffix}"
        return self._names[key]

    def _is_taken(self, stem: str) -> bool:
        return not self._stems.isdisjoint(_stems_of(stem))


def _stems_of(stem: str) -> set[str]:
    """The stems that an artifact and its calibration take, in one case for other file systems."""
    return {stem.lower(), f"{stem.lower()}.calibration"}


def _check_size(path: Path, largest: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    if size > largest:
        raise ConfigurationError(
            f"{path} has {size / 1e6:,.0f} MB, and at most {largest / 1e6:,.0f} MB of such a file "
            "are sent to a device; see whether it is the right one."
        )
