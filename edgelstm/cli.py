"""The command line. Importing it loads neither TensorFlow nor Keras nor a TFLite runtime."""

from __future__ import annotations

from typing import Any

import click

import edgelstm
from edgelstm.commands.alerts import alerts
from edgelstm.commands.bench import bench
from edgelstm.commands.calibrate import calibrate
from edgelstm.commands.compare import compare
from edgelstm.commands.demo import demo
from edgelstm.commands.deploy import deploy
from edgelstm.commands.devices import devices
from edgelstm.commands.doctor import doctor
from edgelstm.commands.evaluate import evaluate
from edgelstm.commands.inspect import inspect
from edgelstm.commands.logs import logs
from edgelstm.commands.ports import ports
from edgelstm.commands.quantize import quantize
from edgelstm.commands.record import record
from edgelstm.commands.rollback import rollback
from edgelstm.commands.run import run
from edgelstm.commands.score import score
from edgelstm.commands.sign import sign
from edgelstm.commands.simulate import simulate
from edgelstm.commands.status import status
from edgelstm.commands.train import train
from edgelstm.commands.uninstall import uninstall
from edgelstm.commands.verify import verify
from edgelstm.errors import EdgelstmError


class _UserError(click.ClickException):
    """An error as the user sees it: one sentence, exit code 2."""

    exit_code = 2


class _Group(click.Group):
    """Turns the errors of edgelstm and of the file system into one sentence each."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgelstmError as error:
            raise _UserError(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _UserError(f"{where}{error.strerror or error}.") from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edgelstm.__version__, prog_name="edgelstm")
def main() -> None:
    """Keras recurrent models as int8 TFLite files, stepped statefully on small computers.

    Start with: edgelstm demo
    """


_COMMANDS = (
    demo,
    train,
    quantize,
    inspect,
    calibrate,
    compare,
    verify,
    sign,
    bench,
    run,
    alerts,
    score,
    evaluate,
    record,
    simulate,
    ports,
    devices,
    deploy,
    status,
    logs,
    rollback,
    uninstall,
    doctor,
)

for _command in _COMMANDS:
    main.add_command(_command)
