"""Readings from anywhere through the detection: python examples/watch.py ARTIFACT CSV.

Here they come from a file; a loop over any source of `Reading`s looks the same.
"""

import sys

import edgelstm
from edgelstm.pipeline import Pipeline
from edgelstm.reading import Reading
from edgelstm.recording import format_time, read_csv


def main() -> None:
    """Prints when alerts open and close."""
    artifact, csv = sys.argv[1:]
    with edgelstm.load(artifact) as session:
        channels = [channel.name for channel in session.artifact.manifest.channels]
        recording = read_csv(csv).with_channels(channels)
        pipeline = Pipeline(session, false_alarms_per_day=1 / 7)
        for timestamp, values in zip(recording.timestamps, recording.values, strict=True):
            verdict = pipeline.update(Reading(float(timestamp), tuple(values)))
            if verdict.event:
                print(format_time(timestamp), verdict.event.value, f"score {verdict.score:.1f}")
    counters = pipeline.counters
    print(f"{counters.readings} readings, {counters.scored} scored, {pipeline.alerts} alerts")


if __name__ == "__main__":
    main()
