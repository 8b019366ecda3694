// A plot of uPlot with the page's colours, times and alerts.

import { number } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Numbers of an axis, all with the same decimals. */
function ticks(_plot, splits) {
  const steps = splits.slice(1).map((one, i) => Math.abs(one - splits[i]));
  const step = Math.min(...steps.filter((one) => one > 0));
  const size = Math.max(...splits.map(Math.abs));
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return splits.map((one) => number(one));
  const decimals = Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  return splits.map((one) => one.toFixed(decimals).replace("-", "\u2212"));
}

/** A number without zeros at its end. */
const brief = (x) => number(x).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

/** Ticks of a score: 0 and round numbers, as far apart as they can be read on an asinh axis. */
export function scoreTicks(threshold, most) {
  const place = (x) => Math.asinh(x / threshold) / Math.asinh(most / threshold);
  const found = [0];
  for (let power = Math.floor(Math.log10(threshold)) - 1; 10 ** power <= most; power++) {
    for (const step of [1, 2, 5]) {
      const next = Number(`${step}e${power}`);
      if (next <= most && place(next) - place(found[found.length - 1]) > 0.22) found.push(next);
    }
  }
  return found;
}

export class Plot {
  /**
   * @param holder an element of fixed height.
   * @param series [{label, colour (a CSS variable), dash, width, spanGaps}].
   * @param options zone, label (for screen readers), sync (a key), score (whether it is one).
   */
  constructor(holder, series, { zone, label, sync = null, score = false, axis = true }) {
    this.holder = holder;
    this.series = series;
    this.zone = zone;
    this.score = score;
    this.axis = axis;
    this.sync = sync;
    this.spans = [];
    this.data = [[], ...series.map(() => [])];
    this.range = [0, 1];
    this.threshold = 1;
    holder.setAttribute("role", "img");
    holder.setAttribute("aria-label", label);
    this.visible = true;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(holder);
    this.build();
  }

  build() {
    this.plot?.destroy();
    const [ink, grid] = [colour("--muted"), colour("--grid")];
    const font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const zone = this.zone;
    const y = this.score
      ? { range: (_u, _low, high) => [0, this.top(high)], distr: 4, asinh: this.threshold }
      : { range: (_u, low, high) => padded(low, high) };
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        padding: [8, 14, this.axis ? 0 : 6, 0],
        cursor: {
          drag: { x: false, y: false },
          points: { size: 6 },
          ...(this.sync ? { sync: { key: this.sync, setSeries: false } } : {}),
        },
        scales: { x: { time: true, range: () => this.range }, y },
        axes: [
          {
            ...axis,
            show: this.axis,
            size: 24,
            space: 80,
            // The label at the right edge would be cut.
            values: (u, splits, _axis, _space, step) => {
              const [begin, end] = this.range;
              const edge = end - ((end - begin) * 22) / Math.max(100, u.width - 80);
              return splits.map((t) => (t > edge ? "" : zone.axis(t, step)));
            },
          },
          {
            ...axis,
            size: 54,
            space: 26,
            values: this.score ? (_u, splits) => splits.map((one) => brief(one)) : ticks,
            ...(this.score ? { splits: (u) => scoreTicks(this.threshold, u.scales.y.max), filter: (_u, splits) => splits } : {}),
          },
        ],
        series: [
          {},
          ...this.series.map((one) => ({
            label: one.label,
            stroke: colour(one.colour),
            width: one.width ?? 1.5,
            dash: one.dash,
            spanGaps: one.spanGaps ?? false,
            points: { show: one.points ?? false, size: 4, fill: colour(one.colour) },
          })),
        ],
        tzDate: (seconds) =>
          zone.utc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000),
        hooks: { drawClear: [(u) => this.shade(u)] },
      },
      this.data,
      this.holder,
    );
  }

  /** The top of a score's axis; in steps, so that it does not tremble. */
  top(high) {
    const wanted = Math.max(high ?? 0, this.threshold * 1.2);
    const ratio = wanted / this.threshold;
    return this.threshold * (ratio <= 1.5 ? 1.5 : 1.5 ** Math.ceil(Math.log(ratio * 1.05) / Math.log(1.5)));
  }

  shade(u) {
    const { left, top, width, height } = u.bbox;
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    for (const { begin, end, severity } of this.spans) {
      const x0 = u.valToPos(Math.max(begin, this.range[0]), "x", true);
      const x1 = u.valToPos(Math.min(end, this.range[1]), "x", true);
      if (x1 < left || x0 > left + width) continue;
      ctx.fillStyle = colour(severity === "critical" ? "--span-critical" : "--span");
      ctx.fillRect(x0, top, Math.max(2, x1 - x0), height);
      ctx.fillStyle = colour("--threshold");
      ctx.fillRect(x0, top, 2, height);
    }
    ctx.restore();
  }

  /** Draws: data as uPlot has it, the range of time, the alerts in it. */
  draw(data, range, spans, threshold) {
    this.data = data;
    this.range = range;
    this.spans = spans;
    if (this.score && threshold > 0 && threshold !== this.threshold) {
      this.threshold = threshold;
      this.plot.scales.y.asinh = threshold;
    }
    if (this.visible) this.plot.setData(data);
  }

  describe(text) {
    this.holder.setAttribute("aria-label", text);
  }

  /** The room inside the holder's padding. */
  size() {
    const { clientWidth, clientHeight } = this.holder;
    const { paddingLeft, paddingRight, paddingBottom } = getComputedStyle(this.holder);
    return {
      width: Math.max(50, clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight)),
      height: Math.max(50, clientHeight - parseFloat(paddingBottom)),
    };
  }

  resize() {
    const { width, height } = this.size();
    if (width !== this.plot.width || height !== this.plot.height) this.plot.setSize({ width, height });
  }

  destroy() {
    this.observer.disconnect();
    this.plot.destroy();
  }
}

function padded(low, high) {
  if (low === null || high === null || low === undefined) return [0, 1];
  const spread = high - low || Math.abs(high) * 0.1 || 1;
  return [low - 0.08 * spread, high + 0.08 * spread];
}
