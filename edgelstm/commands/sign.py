"""`edgelstm sign`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgelstm.artifact import read_bytes
from edgelstm.errors import ConfigurationError
from edgelstm.files import atomic_path, check_output
from edgelstm.keys import PrivateKey, PublicKey, public_path, read_by_others, write_new_keys
from edgelstm.signing import sign as signed
from edgelstm.signing import signed_by

_PASSPHRASE = "EDGELSTM_KEY_PASSPHRASE"  # noqa: S105  # the name of the variable


@click.command(short_help="Sign an artifact, for devices that run nothing else.")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--key", metavar="FILE", type=click.Path(path_type=Path), help="The private key (PEM)."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The .tflite file to write; ARTIFACT itself unless told.",
)
@click.option("--force", is_flag=True, help="Replace the output file if it exists.")
@click.option(
    "--new-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Make a private key, and the public one beside it.",
)
@click.option("--passphrase", is_flag=True, help="With --new-key: ask for one.")
def sign(
    artifact: Path | None,
    key: Path | None,
    output: Path | None,
    force: bool,
    new_key: Path | None,
    passphrase: bool,
) -> None:
    """Sign an artifact with an Ed25519 key: all of it, the model, its manifest and its test.

    A device that has the public key runs what is signed by it, and nothing else. A signature that
    is there already is replaced. What is changed later has to be signed again.

    The passphrase of a key is asked for, or taken from the variable EDGELSTM_KEY_PASSPHRASE.

    Example: edgelstm sign pump.tflite --key key.pem
    """
    if new_key is not None:
        if artifact or key or output or force:
            raise click.UsageError("--new-key makes a key and does nothing else; sign after it.")
        _make_key(new_key, passphrase)
        return
    if artifact is None:
        raise click.UsageError("Missing argument 'ARTIFACT': what is to be signed?")
    if key is None:
        raise click.UsageError("Missing option '--key'; --new-key makes one.")
    if passphrase:
        raise click.UsageError("--passphrase is for --new-key; that of --key is asked for.")
    _sign(artifact, key, output, force)


def _sign(artifact: Path, key: Path, output: Path | None, force: bool) -> None:
    # A link stays one: what it leads to is replaced.
    target = artifact.resolve() if output is None else output
    data = read_bytes(artifact)
    check_output(target, force=force or output is None, suffix="" if output is None else ".tflite")
    private = PrivateKey.read(key, _ask)
    if read_by_others(key):
        click.echo(f"Warning: others can read {key}, and sign with it; chmod 600 {key}", err=True)
    before = signed_by(data)
    result = signed(data, private, artifact)
    with atomic_path(target) as temporary:
        temporary.write_bytes(result)
    instead = f", no longer with {before}" if before not in (None, private.public) else ""
    click.echo(f"Signed {output or artifact} with the key {private.public}{instead}.")


def _make_key(path: Path, passphrase: bool) -> None:
    asked = os.environ.get(_PASSPHRASE, "")
    if passphrase and not asked:
        asked = _type("The key is to have a passphrase", twice=True)
    public: PublicKey = write_new_keys(path, asked)
    click.echo(
        f"Wrote {path}, which signs: keep it secret, and a copy of it safe.\n"
        f"Wrote {public_path(path)}, which devices get.\n"
        f"They are the key {public}."
    )


def _ask() -> str:
    """The passphrase of a key that has one."""
    if (given := os.environ.get(_PASSPHRASE)) is not None:
        return given
    return _type("The key has a passphrase")


def _type(why: str, *, twice: bool = False) -> str:
    try:
        return str(
            click.prompt(
                "Passphrase", hide_input=True, confirmation_prompt=twice, err=True, type=str
            )
        )
    except click.Abort as error:
        raise ConfigurationError(
            f"{why}: type it, or put it into the variable {_PASSPHRASE}."
        ) from error
