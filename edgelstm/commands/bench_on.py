"""`edgelstm bench --on`: the same on a device, by what was deployed there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelstm.commands.host_options import HostChoice
from edgelstm.commands.on_device import the_service
from edgelstm.errors import DeploymentError

if TYPE_CHECKING:
    from edgelstm_devices.remote import Remote

# Also when the connection ends in the middle: what then writes fails, and the shell goes on to its
# end.
_SCRIPT = """
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
trap 'exit 2' HUP INT TERM
cat > "$folder/$2" || exit 2
program=$1 file=$folder/$2
shift 2
"$program" bench "$file" "$@" < /dev/null
"""


def bench_on(chosen: HostChoice, artifact: Path | None, options: Sequence[str]) -> int:
    """Measures an artifact on a device, and shows what edgelstm says there.

    Args:
        chosen: the device, and the service whose runtime it is.
        artifact: is sent there for the time; None for the service's own.
        options: of `edgelstm bench`.

    Returns:
        The exit code, 0 or 2.

    Raises:
        DeploymentError: the device cannot be reached, or no release is there.
        OSError: the artifact cannot be read.
    """
    with ExitStack() as stack:
        # Before there is a connection to wait for.
        file = None if artifact is None else stack.enter_context(artifact.open("rb"))
        remote = stack.enter_context(chosen.connect())
        service = the_service(remote, chosen)
        program = service["command"]
        if not program:
            raise DeploymentError(
                f"{chosen.host} has no release of {service['name']}; bring one there with "
                "'edgelstm deploy'."
            )
        if artifact is None:
            own = _own_artifact(remote, chosen.host, service)
            code = remote.run(program, "bench", own, *options)
        else:
            command = ["sh", "-c", _SCRIPT, "sh", program, artifact.name, *options]
            code = remote.run(*command, stdin=file)
    return 2 if code else 0


def _own_artifact(remote: Remote, host: str, service: dict[str, Any]) -> str:
    """The path of the only artifact of a release.

    Raises:
        DeploymentError: it has several, or may not be looked at.
    """
    told = remote.call(
        "status", layout=remote.layout, service=service["name"], alerts=0, history=0, journal=0
    )
    made = told["services"][0]["made"]
    if made is None:
        raise DeploymentError(
            f"What the release of {service['name']} on {host} has cannot be seen; name an ARTIFACT."
        )
    if len(made["artifacts"]) != 1:
        names = ", ".join(made["artifacts"])
        raise DeploymentError(
            f"The release of {service['name']} on {host} has several artifacts ({names}); name "
            "one of this computer's as ARTIFACT."
        )
    return f"{service['folder']}/{made['artifacts'][0]}"
