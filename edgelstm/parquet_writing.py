"""Recordings written as Parquet, from the CSV file that they are while they are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import MissingDependencyError
from edgelstm.files import atomic_path

_BLOCK_SIZE = 4 << 20  # of text at once, which bounds the memory


def write_parquet(rows: Path, path: Path, columns: Sequence[str]) -> None:
    """Writes the rows of a CSV file as Parquet, a block at a time; nothing half-written is left.

    The first column becomes timestamps in microseconds, UTC; the others become float64.

    Args:
        rows: the CSV file: a header, then rows of an ISO 8601 time and finite numbers.
        path: of the file to write; one that is there is replaced.
        columns: what the header holds.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        OSError: a file cannot be read or written.
    """
    pyarrow = need_pyarrow()
    time, *channels = columns
    schema = pyarrow.schema(
        [(time, pyarrow.timestamp("us", "UTC")), *((name, pyarrow.float64()) for name in channels)]
    )
    reading = pyarrow.csv.open_csv(
        rows,
        pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_SIZE),
        convert_options=pyarrow.csv.ConvertOptions(column_types=schema),
    )
    with (
        reading,
        atomic_path(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema) as writer,
    ):
        for batch in reading:
            writer.write_batch(batch)


def need_pyarrow() -> Any:
    """pyarrow, with what reads CSV and writes Parquet.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            "A Parquet file needs pyarrow; run: pip install 'edgelstm[parquet]'"
        ) from error
    return pyarrow
