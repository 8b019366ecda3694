// The list of alerts, and what is known of one.

import { duration, number } from "./format.js";
import { Plot } from "./plot.js";
import { aboutOf, element, isOpen, kindOf, seconds } from "./words.js";

const cookie = (name) =>
  document.cookie
    .split("; ")
    .find((one) => one.startsWith(`${name}=`))
    ?.slice(name.length + 1) ?? "";

const remembered = () => {
  try {
    return localStorage.getItem("edgelstm.name") ?? "";
  } catch {
    return "";
  }
};

/** Writes the list anew; the button that has the focus keeps it. */
export function listAlerts(list, alerts, { zone, several, choose }) {
  const focused = document.activeElement?.dataset?.alert;
  list.replaceChildren(
    ...alerts.map((alert) => {
      const open = isOpen(alert);
      const length = open ? "" : ` for ${duration(seconds(alert.closed) - seconds(alert.opened))}`;
      const mark = element("span", "mark");
      mark.setAttribute("aria-hidden", "true");
      const button = element(
        "button",
        "alert",
        mark,
        element(
          "span",
          "alert-text",
          element(
            "span",
            "alert-title",
            kindOf(alert),
            several && alert.sensor ? element("span", "of", ` ${alert.sensor}`) : null,
            alert.severity === "critical" ? element("span", "tag critical", "critical") : null,
            open ? element("span", "tag open", "open") : null,
          ),
          element("span", "alert-about", aboutOf(alert)),
          element(
            "span",
            "alert-time",
            `${open ? "since " : ""}${zone.moment(seconds(alert.opened))}${length}`,
            alert.acknowledged ? ` \u00b7 seen by ${alert.acknowledged.by}` : "",
          ),
        ),
      );
      button.type = "button";
      button.dataset.alert = alert.alert_id;
      button.dataset.status = open ? (alert.severity === "critical" ? "failing" : "alert") : "past";
      button.addEventListener("click", () => choose(alert.alert_id));
      return element("li", "", button);
    }),
  );
  if (!alerts.length) list.append(element("li", "none", "None so far."));
  if (focused) list.querySelector(`[data-alert="${CSS.escape(focused)}"]`)?.focus();
}

/** The dialog with one alert. */
export class AlertDialog {
  constructor(dialog) {
    this.dialog = dialog;
    this.title = dialog.querySelector("#alert-title");
    this.body = dialog.querySelector("#alert-body");
    this.plots = [];
    this.alert = null;
    dialog.querySelector("#alert-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => this.clear());
  }

  clear() {
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    this.alert = null;
    this.evidence = undefined;
  }

  /** Shows an alert; `info` is of its sensor, if that is still watched. */
  async show(alert, zone, info) {
    this.clear();
    Object.assign(this, { alert, zone, info });
    this.write();
    if (!this.dialog.open) this.dialog.showModal();
    await this.load();
  }

  /** The alert has changed meanwhile. What is being written into the form stays. */
  update(alert) {
    if (!this.alert || alert.id === this.alert.id) return;
    const [by, note] = [this.by?.value, this.note?.value];
    const grown = alert.closed !== this.alert.closed;
    this.alert = alert;
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    this.write();
    if (this.by && by !== undefined) [this.by.value, this.note.value] = [by, note];
    if (grown) this.load();
    else this.draw();
  }

  async load() {
    const asked = this.alert;
    let evidence = null;
    try {
      const answer = await fetch(`/api/alerts/${encodeURIComponent(asked.alert_id)}/evidence`);
      if (answer.ok) evidence = await answer.json();
    } catch {
      // Shown as none; the next click tries again.
    }
    if (this.alert?.alert_id !== asked.alert_id) return;
    this.evidence = evidence;
    this.draw();
  }

  write() {
    const { alert, zone } = this;
    this.title.textContent = alert.sensor ? `${kindOf(alert)} of ${alert.sensor}` : kindOf(alert);
    const facts = element("dl", "facts");
    const fact = (name, value) => facts.append(element("div", "", element("dt", "", name), element("dd", "", value)));
    fact("Opened", `${zone.day(seconds(alert.opened))} ${zone.clock(seconds(alert.opened))}`);
    fact(
      "Closed",
      isOpen(alert)
        ? "still open"
        : `${zone.clock(seconds(alert.closed))}, after ${duration(seconds(alert.closed) - seconds(alert.opened))}`,
    );
    fact("Severity", alert.severity);
    if (alert.peak_score !== null) {
      const level = alert.threshold_at_opening;
      fact(
        "Peak score",
        `${number(alert.peak_score)}${level > 0 ? `, ${number(alert.peak_score / level)} times the threshold` : ""}`,
      );
    }
    this.charts = element("div", "evidence");
    this.charts.append(element("p", "waiting", "Fetching the readings around it."));
    this.body.replaceChildren(
      facts,
      alert.kind === "service_fault" ? element("p", "", alert.summary) : "",
      this.seen(),
      this.table(),
      this.charts,
    );
  }

  table() {
    const { channels, kind } = this.alert;
    if (!channels.length || kind !== "anomaly") return "";
    const units = new Map(this.info?.channels.map((one) => [one.name, one.unit]) ?? []);
    const table = element("table", "shares");
    const head = element("tr");
    for (const name of ["Channel", "Share", "Observed", "Predicted", "Residual"]) {
      const cell = element("th", "", name);
      cell.scope = "col";
      head.append(cell);
    }
    table.append(element("caption", "unseen", "The channels at the peak"), element("thead", "", head));
    const body = element("tbody");
    for (const one of channels.slice(0, 8)) {
      const bar = element("meter");
      bar.min = 0;
      bar.max = 1;
      bar.value = one.share;
      bar.setAttribute("aria-hidden", "true");
      const unit = units.get(one.name);
      body.append(
        element(
          "tr",
          "",
          element("th", "", one.name, unit ? element("span", "unit", ` ${unit}`) : null),
          element("td", "share", `${Math.round(100 * one.share)} %`, bar),
          element("td", "", number(one.observed)),
          element("td", "", number(one.predicted)),
          element("td", "", number(one.residual)),
        ),
      );
    }
    table.append(body);
    return element("div", "scroll", table);
  }

  draw() {
    const { alert, zone, evidence } = this;
    if (evidence === undefined) return;
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    this.charts.replaceChildren();
    if (!evidence || evidence.times.length < 2) {
      this.charts.append(element("p", "none", "No readings around it were kept."));
      return;
    }
    const { times, channels, compared } = evidence;
    const range = [times[0], times[times.length - 1]];
    const spans = [
      { begin: seconds(alert.opened), end: alert.closed ? seconds(alert.closed) : range[1], severity: alert.severity },
    ];
    const points = times.length < 60;
    const add = (name, series, data, score, threshold) => {
      const holder = element("div", "plot");
      const last = element("section", "", element("h3", "", name), holder);
      this.charts.append(last);
      const plot = new Plot(holder, series, { zone, label: `${name} around the alert`, sync: "evidence", score });
      plot.draw([times, ...data], range, spans, threshold);
      this.plots.push(plot);
    };
    const levels = evidence.thresholds.filter((one) => one !== null);
    if (levels.length) {
      add(
        "Score",
        [
          { label: "threshold", colour: "--threshold", dash: [6, 4], spanGaps: true },
          { label: "score", colour: "--score", spanGaps: true, points },
        ],
        [evidence.thresholds, evidence.scores],
        true,
        Math.max(...levels),
      );
    }
    const order = new Map(alert.channels.map((one, place) => [one.name, place]));
    const shown = [...channels].sort((a, b) => (order.get(a) ?? 99) - (order.get(b) ?? 99));
    for (const name of shown) {
      const at = channels.indexOf(name);
      const forecast = compared.indexOf(name);
      const unit = this.info?.channels.find((one) => one.name === name)?.unit;
      add(
        unit ? `${name}, ${unit}` : name,
        [
          { label: "observed", colour: "--observed", points },
          { label: "predicted", colour: "--predicted", dash: [5, 4], spanGaps: true },
        ],
        [
          evidence.values.map((row) => row[at]),
          evidence.predicted.map((row) => (row && forecast >= 0 ? row[forecast] : null)),
        ],
        false,
      );
    }
  }

  seen() {
    const { alert, zone } = this;
    this.by = this.note = null;
    const by = alert.acknowledged;
    if (by) {
      return element(
        "div",
        "seen",
        element("p", "", `Seen by ${by.by}, ${zone.moment(seconds(by.time))}`),
        by.note ? element("p", "note", by.note) : null,
      );
    }
    const form = element("form", "acknowledge");
    this.by = element("input");
    Object.assign(this.by, { id: "seen-by", required: true, maxLength: 100, autocomplete: "name", value: remembered() });
    this.note = element("input");
    Object.assign(this.note, { id: "seen-note", maxLength: 1000, autocomplete: "off" });
    const label = (text, input) => {
      const made = element("label", "", text);
      made.htmlFor = input.id;
      return element("div", "", made, input);
    };
    const button = element("button", "primary", "Acknowledge");
    button.type = "submit";
    const failed = element("p", "failed");
    failed.setAttribute("role", "alert");
    form.append(label("Your name", this.by), label("Note", this.note), button, failed);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      failed.textContent = "";
      try {
        localStorage.setItem("edgelstm.name", this.by.value);
      } catch {
        // It is asked for again.
      }
      let problem = "The service cannot be reached; try again.";
      try {
        const answer = await fetch(`/api/alerts/${encodeURIComponent(alert.alert_id)}/acknowledgement`, {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-XSRFToken": cookie("edgelstm_xsrf") },
          body: JSON.stringify({ by: this.by.value, note: this.note.value }),
        });
        problem = answer.ok ? "" : (await answer.json()).error;
      } catch {
        // As it stands.
      }
      failed.textContent = problem;
      button.disabled = false;
    });
    return form;
  }
}
