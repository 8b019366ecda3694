// The plots of one sensor, live.

import { number } from "./format.js";
import { Plot } from "./plot.js";
import { element } from "./words.js";

export class Signal {
  /** @param parts the elements: score plot, score readout, channels. */
  constructor({ scorePlot, scoreNow, channels }) {
    Object.assign(this, { scorePlot, scoreNow, channels });
    this.plots = [];
    this.readouts = [];
    this.info = null;
    this.watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const own = this.plots.find((one) => one.plot.holder === target);
        if (own) own.plot.visible = isIntersecting;
      }
    });
  }

  /** Makes the plots of a sensor. */
  build(info, zone) {
    this.clear();
    this.info = info;
    const columns = info.channels.length + info.compared.length;
    this.add(this.scorePlot, [
      { label: "threshold", colour: "--threshold", dash: [6, 4], spanGaps: info.window },
      { label: "score", colour: "--score", spanGaps: info.window },
    ], [columns + 1, columns], { zone, label: "Score", score: true });
    const cards = info.channels.map((channel, at) => {
      const now = element("p", "now");
      const holder = element("div", "plot");
      const name = element("h3", "", channel.name);
      if (channel.unit) name.append(element("span", "unit", channel.unit));
      const card = element("section", "card", element("div", "card-head", name, now), holder);
      card.setAttribute("aria-label", channel.name);
      this.readouts.push(now);
      const forecast = info.compared.indexOf(channel.name);
      const series = [{ label: "observed", colour: "--observed" }];
      const from = [at];
      if (forecast >= 0) {
        series.push({ label: "predicted", colour: "--predicted", dash: [5, 4], spanGaps: info.window });
        from.push(info.channels.length + forecast);
      }
      return [card, holder, series, from, channel.name];
    });
    this.channels.replaceChildren(...cards.map(([card]) => card));
    for (const [, holder, series, from, name] of cards) this.add(holder, series, from, { zone, label: name });
  }

  add(holder, series, from, options) {
    const plot = new Plot(holder, series, { ...options, sync: "signal" });
    this.plots.push({ plot, from, label: options.label });
    this.watcher.observe(holder);
  }

  clear() {
    for (const { plot } of this.plots) {
      this.watcher.unobserve(plot.holder);
      plot.destroy();
    }
    this.plots = [];
    this.readouts = [];
    this.channels.replaceChildren();
  }

  rebuild(zone) {
    for (const { plot } of this.plots) {
      plot.zone = zone;
      plot.build();
    }
  }

  /** Draws what a store has of a length of time. */
  draw(store, seconds, alerts) {
    const drawn = store.drawn(seconds);
    const end = store.time ?? Date.now() / 1000;
    const range = [end - seconds, end];
    const threshold = store.judged?.[1];
    for (const { plot, from } of this.plots) {
      plot.draw([drawn[0], ...from.map((at) => drawn[at + 1])], range, alerts, threshold);
    }
  }

  /** The last values as text. */
  read(store, aloud) {
    const { channels, compared } = this.info;
    const { latest, judged } = store;
    channels.forEach((channel, at) => {
      const forecast = compared.indexOf(channel.name);
      const size = store.sizes[at];
      const value = number(latest[at], size);
      const readout = this.readouts[at];
      if (!readout.firstChild) readout.append(element("b"), element("span"));
      readout.firstChild.textContent = value;
      const predicted = forecast >= 0 ? number(latest[channels.length + forecast], size) : "";
      readout.lastChild.textContent = predicted && `predicted ${predicted}`;
      if (aloud) {
        this.plots[at + 1].plot.describe(
          `${channel.name}: ${value} ${channel.unit}${predicted && `, predicted ${predicted}`}`,
        );
      }
    });
    if (!this.scoreNow.firstChild) this.scoreNow.append(element("b"), element("span"));
    const [text, level] = judged ?? [null, null];
    this.scoreNow.firstChild.textContent = number(text);
    this.scoreNow.lastChild.textContent = judged ? `threshold ${number(level)}` : "warming up";
    this.scoreNow.classList.toggle("exceeded", Boolean(judged) && text > level);
    if (aloud) this.plots[0].plot.describe(`Score ${number(text)}, threshold ${number(level)}`);
  }
}
