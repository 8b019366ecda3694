// What the browser keeps of a sensor: for each length of time about as many points as a screen has.

/** How many stretches a lane has; each keeps its lowest and its highest value. */
const STRETCHES = 600;
/** With many gaps there are more, but never more than so many. */
const MOST = 4 * STRETCHES;
/** Readings in a row from the past after which their time is believed. */
const BELIEVED = 10;

/** The lengths of time that can be shown of readings that come so often, in seconds. */
export function windowsFor(period) {
  if (period <= 2) return [60, 300, 900, 3600];
  if (period <= 30) return [900, 3600, 21600, 86400];
  return [21600, 86400, 259200, 604800];
}

/** A message of columns; see edgelstm/dashboard/columns.py. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / 8) * 8;
  const rows = header.rows;
  const times = new Float64Array(buffer, start, rows);
  const values = new Float32Array(buffer, start + 8 * rows);
  return { header, times, values, columns: rows ? values.length / rows : 0 };
}

class Stretch {
  constructor(index, columns, gap) {
    this.index = index;
    this.gap = gap;
    this.rows = 0;
    this.begin = this.end = 0;
    this.low = new Float32Array(columns).fill(NaN);
    this.high = new Float32Array(columns).fill(NaN);
    this.lowFirst = new Uint8Array(columns);
  }

  add(time, values, at, step) {
    if (!this.rows++) this.begin = time;
    this.end = time;
    for (let c = 0; c < this.low.length; c++) {
      const value = values[at + c * step];
      if (value !== value) continue;
      if (this.low[c] !== this.low[c]) {
        this.low[c] = this.high[c] = value;
      } else if (value < this.low[c]) {
        this.low[c] = value;
        this.lowFirst[c] = 0;
      } else if (value > this.high[c]) {
        this.high[c] = value;
        this.lowFirst[c] = 1;
      }
    }
  }
}

/** One length of time: what is older leaves. */
class Lane {
  constructor(seconds, columns) {
    this.seconds = seconds;
    this.width = seconds / STRETCHES;
    this.columns = columns;
    this.stretches = [];
  }

  add(time, values, at, step, gap) {
    const index = Math.floor(time / this.width);
    let last = this.stretches[this.stretches.length - 1];
    if (!last || last.index !== index || gap) {
      last = new Stretch(index, this.columns, gap);
      this.stretches.push(last);
      // One more than is shown, so that the line goes on to the left edge.
      const { stretches } = this;
      while (stretches.length > 2 && (stretches[1].end < time - this.seconds || stretches.length > MOST)) {
        stretches.shift();
      }
    }
    last.add(time, values, at, step);
  }

  forgetFrom(time) {
    while (this.stretches.length && this.stretches[this.stretches.length - 1].begin >= time) {
      this.stretches.pop();
    }
    const last = this.stretches[this.stretches.length - 1];
    if (last && last.end >= time) last.end = time;
  }
}

/** The lanes of a sensor. The columns are those of the messages: channels, predictions, score, threshold. */
export class Store {
  constructor(info) {
    this.info = info;
    this.columns = info.channels.length + info.compared.length + 2;
    this.lanes = windowsFor(info.sample_period).map((seconds) => new Lane(seconds, this.columns));
    this.epoch = "";
    this.to = 0;
    this.time = null;
    this.latest = new Float32Array(this.columns).fill(NaN);
    this.sizes = new Float32Array(this.columns);
    this.behind = 0;
    this.step = info.sample_period;
  }

  /** Whether this artifact still has these columns. */
  fits(info) {
    return JSON.stringify(info) === JSON.stringify(this.info);
  }

  /** Takes a message; returns how many readings were new. */
  take({ header, times, values, columns }) {
    if (header.rows && columns !== this.columns) return 0;
    if (header.epoch !== this.epoch) {
      // The service, or its artifact, started anew: what it sends now takes the place of what
      // was known of that time.
      this.epoch = header.epoch;
      if (header.rows) this.forgetFrom(times[0]);
    }
    this.to = header.to;
    for (let row = 0; row < header.rows; row++) {
      const time = times[row];
      let gap = false;
      if (this.time !== null) {
        const step = time - this.time;
        if (step < 0) {
          if (++this.behind <= BELIEVED) continue;
          this.forgetFrom(time);
          gap = true;
        } else {
          // The usual step is learned: sources may be slower than the model was made for.
          gap = step > Math.max(4 * this.step, 0.05);
          this.step += (Math.min(step, 8 * this.step) - this.step) / 16;
        }
      }
      this.behind = 0;
      this.time = time;
      for (const lane of this.lanes) lane.add(time, values, row, header.rows, gap);
      for (let c = 0; c < this.columns; c++) {
        const value = values[row + c * header.rows];
        this.latest[c] = value;
        // The usual size, which falls slowly: digits come and go seldom.
        this.sizes[c] = Math.max(Math.abs(value) || 0, this.sizes[c] * 0.9999);
      }
      const score = this.latest[this.columns - 2];
      if (score === score) this.judged = [score, this.latest[this.columns - 1]];
    }
    return header.rows;
  }

  forgetFrom(time) {
    for (const lane of this.lanes) lane.forgetFrom(time);
    if (this.time !== null && this.time >= time) this.time = null;
    this.behind = 0;
  }

  /** What is drawn of a length of time: [times, column, column, ...] with null for what is missing. */
  drawn(seconds) {
    const lane = this.lanes.find((one) => one.seconds === seconds) || this.lanes[0];
    const times = [];
    const columns = Array.from({ length: this.columns }, () => []);
    for (const stretch of lane.stretches) {
      if (stretch.gap && times.length) {
        times.push(stretch.begin);
        for (const column of columns) column.push(null);
      }
      times.push(stretch.begin);
      const two = stretch.rows > 1;
      if (two) times.push(stretch.end);
      for (let c = 0; c < this.columns; c++) {
        const low = stretch.low[c];
        const high = stretch.high[c];
        const column = columns[c];
        if (!Number.isFinite(low) || !Number.isFinite(high)) {
          column.push(null);
          if (two) column.push(null);
        } else if (two) {
          if (stretch.lowFirst[c]) column.push(low, high);
          else column.push(high, low);
        } else column.push(low);
      }
    }
    return [times, ...columns];
  }
}
