"""Where a secret comes from: a variable of the environment, a file, or systemd's credentials."""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgelstm.configuration.places import resolve
from edgelstm.errors import ConfigurationError
from edgelstm.secret import Secret

_LONGEST = 65_536  # bytes; nothing longer is a password

log = logging.getLogger(__name__)


def how_to_give(name: str) -> str:
    """The ways to give a secret, for messages.

    Args:
        name: of the key.
    """
    return f'{{ env = "{name.upper()}" }}, {{ file = "{name}.txt" }} or {{ credential = "{name}" }}'


def read_secret(
    table: Any,
    name: str,
    folder: Path,
    environ: Mapping[str, str],
    *,
    elsewhere: bool = False,
) -> Secret:
    """Reads a secret from where a table says it is.

    Args:
        table: as the file has it, such as `{"env": "MQTT_PASSWORD"}`.
        name: of the key.
        folder: that a path is relative to.
        environ: the environment.
        elsewhere: whether it is on another computer; something stands in for it.

    Raises:
        ConfigurationError: it is not there; the message is what is said of the key, such as "is
            empty", and never has the secret in it.
    """
    if isinstance(table, str):
        raise ConfigurationError(
            f"is a secret, which does not belong into the file as it is; write {how_to_give(name)}"
        )
    if not (isinstance(table, dict) and len(table) == 1):
        raise ConfigurationError(f"must be one of {how_to_give(name)}")
    ((kind, where),) = table.items()
    if kind not in ("env", "file", "credential") or not isinstance(where, str) or not where:
        raise ConfigurationError(f"must be one of {how_to_give(name)}")
    if elsewhere:
        # Another for each place, and a URL, which it may have to be.
        return Secret(f"https://{kind}.invalid/{quote(where, safe='')}")
    if kind == "env":
        if where not in environ:
            raise ConfigurationError(f"comes from the variable {where}, which is not set")
        return _checked(environ[where], f"the variable {where}")
    if kind == "file":
        path = resolve(where, folder)
        secret = _from_file(path)
        if path.stat().st_mode & stat.S_IROTH:
            log.warning(
                "%s holds a secret and everybody may read it; run: chmod o-r %s", path, path
            )
        return secret
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigurationError(
            f"is a credential, which only systemd gives (LoadCredential={where}:/path in the unit)"
        )
    if "/" in where or where in (".", ".."):
        raise ConfigurationError("names a credential with a slash in it, which there cannot be")
    return _from_file(Path(directory) / where)


def _from_file(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
        text = data.decode()
    except UnicodeDecodeError:
        # Not `from error`: its text would show the bytes.
        raise ConfigurationError(f"comes from {path}, which is not text in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"comes from {path}, which cannot be read: {reason}") from error
    if len(data) > _LONGEST:
        raise ConfigurationError(f"comes from {path}, which is too long for a secret")
    return _checked(text.removesuffix("\n").removesuffix("\r"), str(path))


def _checked(text: str, where: str) -> Secret:
    if not text:
        raise ConfigurationError(f"comes from {where}, which is empty")
    if any(character < " " or character == "\x7f" for character in text):
        raise ConfigurationError(
            f"comes from {where}, which has more than one line, or characters that no secret has"
        )
    return Secret(text)
