"""Readings from anywhere through the detection: python examples/watch.py ARTIFACT SOURCE.

SOURCE is a serial port such as /dev/ttyACM0, or any other source's URL; replay:pump.csv is a
recording.
"""

import sys

import edgelstm
from edgelstm.pipeline import Pipeline
from edgelstm.recording import format_time
from edgelstm.sinks.log import summary
from edgelstm_bridge import open_source


def main() -> None:
    """Prints what happens to alerts."""
    artifact, url = sys.argv[1:]
    with edgelstm.load(artifact) as session, open_source(url) as source:
        pipeline = Pipeline(session, false_alarms_per_day=1 / 7)
        names = [channel.name for channel in source.channels]
        order = [names.index(channel.name) for channel in session.artifact.manifest.channels]
        for reading in source:
            values = tuple(reading.values[i] for i in order)
            verdict = pipeline.update(reading._replace(values=values))
            for change in verdict.changes:
                print(format_time(reading.timestamp), summary(change, verdict))
    counters = pipeline.counters
    print(f"{counters.readings} readings, {counters.scored} scored, {pipeline.alerts} alerts")
    print(f"{source.counters.lost} lost, {source.counters.damaged} damaged on the way")


if __name__ == "__main__":
    main()
