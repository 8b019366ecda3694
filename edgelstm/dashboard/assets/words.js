// Health and alerts in words, and small things of the document.

import { count, duration, megabytes, microseconds, number, some } from "./format.js";

/** An element with a class and children; texts stay texts, whatever is in them. */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const seconds = (iso) => Date.parse(iso) / 1000;

const REASONS = {
  warming_up: "while warming up",
  after_gap: "after a gap",
  not_due: "between two windows",
  uncompared: "without a value to compare",
  unusable: "without a usable value",
  backwards: "with a time that went back",
  failed: "failed",
};

/** What the kind of an alert is called. */
export function kindOf(alert) {
  if (alert.kind === "sensor_fault") return `Sensor fault: ${alert.reason || "unknown"}`;
  if (alert.kind === "service_fault") return "Service fault";
  return `Anomaly ${alert.number}`;
}

/** What an alert is about, in a line. */
export function aboutOf(alert) {
  if (alert.kind === "service_fault") return alert.summary;
  if (alert.kind === "sensor_fault") return alert.channels.map((one) => one.name).join(", ");
  const named = alert.channels
    .filter((one) => one.share >= 0.05)
    .slice(0, 2)
    .map((one) => `${one.name}\u00a0${Math.round(100 * one.share)}\u00a0%`);
  const level = alert.threshold_at_opening;
  const peak =
    level > 0 ? `peak ${number(alert.peak_score / level)} \u00d7 threshold` : `peak ${number(alert.peak_score)}`;
  return [peak, ...named].join("\u00a0\u00b7 "); // a line may end with the dot, not begin with it
}

export const isOpen = (alert) => alert.closed === null;

/** How a sensor is: [status, word]. */
export function stateOf(sensor) {
  if (sensor.status === "failing") return ["failing", "not watched"];
  if (sensor.open_alerts) return ["alert", some(sensor.open_alerts, "open alert")];
  if (sensor.status === "degraded") return ["degraded", "degraded"];
  if (sensor.warming_up) return ["waiting", "warming up"];
  return ["ok", "normal"];
}

function aboutSensor(sensor) {
  const lines = [];
  const scored = sensor.readings ? (100 * sensor.scored) / sensor.readings : 0;
  lines.push(
    sensor.readings
      ? `${some(sensor.readings, "reading")}, ${scored === 100 ? "all" : `${Math.min(99.99, scored).toFixed(2)} %`} scored.`
      : "No reading yet.",
  );
  const skipped = Object.entries(sensor.skipped)
    .filter(([, n]) => n)
    .map(([reason, n]) => `${count(n)} ${REASONS[reason] ?? reason.replaceAll("_", " ")}`);
  if (skipped.length) lines.push(`No score: ${skipped.join(", ")}.`);
  if (sensor.latency_p50 !== null) {
    lines.push(
      `A reading takes ${microseconds(sensor.latency_p50)}, 99 of 100 at most ${microseconds(sensor.latency_p99)}.`,
    );
  }
  lines.push(`${sensor.artifact}, ${sensor.recipe}, on ${sensor.backend}.`);
  if (sensor.delegate?.fallbacks) {
    lines.push(`The delegate failed ${some(sensor.delegate.fallbacks, "time")}.`);
  }
  return lines;
}

function aboutSource(source) {
  const bad = [
    [source.lost, "lost"],
    [source.damaged, "damaged"],
    [source.overflow, "dropped here"],
    [source.reordered, "out of order"],
  ]
    .filter(([n]) => n)
    .map(([n, word]) => `${count(n)} ${word}`);
  const lines = [`${source.description || "\u2013"}.`];
  lines.push(bad.length ? `${some(source.readings, "reading")}; ${bad.join(", ")}.` : `${some(source.readings, "reading")}, none lost.`);
  const again = [];
  if (source.reconnects) again.push(`connected again ${some(source.reconnects, "time")}`);
  if (source.restarts) again.push(`the device restarted ${some(source.restarts, "time")}`);
  if (again.length) lines.push(`${again.join("; ").replace(/^./, (c) => c.toUpperCase())}.`);
  return lines;
}

function aboutSink(sink, zone) {
  const lines = [`${some(sink.sent, "message")} sent${sink.last_sent === null ? "" : `, the last at ${zone.moment(sink.last_sent)}`}.`];
  if (sink.pending) {
    lines.push(`${count(sink.pending)} ${sink.pending === 1 ? "waits" : "wait"}${sink.held ? `, ${count(sink.held)} for the end of quiet hours` : ""}.`);
  }
  if (sink.refused) lines.push(`${count(sink.refused)} refused for good.`);
  return lines;
}

function aboutOutbox(outbox) {
  const lines = [`${some(outbox.alerts, "alert")} kept${outbox.path === null ? " in memory only" : `, ${megabytes(outbox.bytes)}`}.`];
  if (outbox.unsaved) lines.push(`${some(outbox.unsaved, "message")} not on the disk yet.`);
  if (outbox.dropped) lines.push(`${some(outbox.dropped, "alert")} dropped for lack of room.`);
  if (outbox.evidence_dropped) {
    lines.push(`Of ${some(outbox.evidence_dropped, "alert")} the readings were dropped for lack of room.`);
  }
  return lines;
}

/** Rows of [status, kind, name, state, lines, problem]. */
export function healthRows(health, zone) {
  const rows = health.sensors.map((one) => {
    const [status, word] = stateOf(one);
    return [status, "Sensor", one.name, word, aboutSensor(one), one.problem];
  });
  for (const one of health.sources) {
    const status = !one.connected ? "failing" : one.problem ? "degraded" : "ok";
    rows.push([status, "Source", one.name, one.connected ? "connected" : "not connected", aboutSource(one), one.problem]);
  }
  for (const one of health.sinks) {
    rows.push([one.problem ? "degraded" : "ok", `Sink, ${one.kind}`, one.name, one.problem ? "failing" : "works", aboutSink(one, zone), one.problem]);
  }
  const outbox = health.outbox;
  rows.push([outbox.problem ? "degraded" : "ok", "Outbox", "", outbox.problem ? "in trouble" : "works", aboutOutbox(outbox), outbox.problem]);
  return rows;
}

/** The whole in a word: [status, text]. */
export function overall(health, open) {
  if (health.status === "failing") return ["failing", "Not watching"];
  if (open) return ["alert", some(open, "open alert")];
  if (health.status === "degraded") return ["degraded", some(Math.max(1, health.problems.length), "problem")];
  return ["ok", "All is well"];
}

export const upFor = (health) => `up ${duration(health.time - health.started)}`;
