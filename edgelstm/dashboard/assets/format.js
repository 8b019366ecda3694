// Numbers and times as people read them.

const MINUS = "\u2212";

/**
 * A number with about three significant digits; a dash for none.
 *
 * `size` is what else stands in its place: then all have the same decimals.
 */
export function number(x, size = Math.abs(x)) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "\u2013";
  let text;
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) text = x.toExponential(2).replace("e+", "e");
  else if (size >= 1000) text = Math.round(x).toLocaleString("en");
  else text = x.toFixed(size >= 100 ? 1 : size >= 0.3 || size === 0 ? 2 : 4);
  return text.replace("-", MINUS);
}

/** A count, such as 1,234,567. */
export const count = (n) => n.toLocaleString("en");

/** "1 alert", "2 alerts". */
export const some = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** How long, such as "12 s" or "3 min" or "2 d 4 h". */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** A round length of time, such as "15 min", "1 h" or "7 d". */
export const span = (s) => (s < 3600 ? `${s / 60} min` : s < 86400 ? `${s / 3600} h` : `${s / 86400} d`);

/** How long ago, calm enough to be read while it changes. */
export const ago = (seconds) => (seconds < 1 ? "less than 1 s ago" : `${duration(Math.floor(seconds))} ago`);

export const microseconds = (us) =>
  us === null ? "\u2013" : us < 1000 ? `${Math.round(us)} \u00b5s` : `${number(us / 1000)} ms`;

export const megabytes = (n) => (n < 1e6 ? `${Math.round(n / 1000)} kB` : `${(n / 1e6).toFixed(1)} MB`);

/** Times in UTC or in the browser's zone. */
export class Zone {
  constructor(utc) {
    this.utc = utc;
  }

  get name() {
    return this.utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  }

  /** The parts of a time, seconds since the Unix epoch: [year, month, day, hour, minute, second]. */
  parts(seconds) {
    const d = new Date(seconds * 1000);
    return this.utc
      ? [d.getUTCFullYear(), d.getUTCMonth() + 1, d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()]
      : [d.getFullYear(), d.getMonth() + 1, d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds()];
  }

  clock(seconds, withSeconds = true) {
    const [, , , h, m, s] = this.parts(seconds);
    return withSeconds ? `${two(h)}:${two(m)}:${two(s)}` : `${two(h)}:${two(m)}`;
  }

  /** A time on an axis whose marks are so many seconds apart. */
  axis(seconds, step) {
    if (step >= 86400) return this.day(seconds).slice(5);
    if (step < 1) {
      const rest = seconds - Math.floor(seconds + 1e-6);
      return this.clock(seconds + 1e-6) + Math.max(0, rest).toFixed(step < 0.1 ? 2 : 1).slice(1);
    }
    return this.clock(seconds, step < 60);
  }

  day(seconds) {
    const [year, month, day] = this.parts(seconds);
    return `${year}-${two(month)}-${two(day)}`;
  }

  /** The time alone when it is of today, else with the day. */
  moment(seconds) {
    const today = this.day(Date.now() / 1000);
    const day = this.day(seconds);
    return day === today ? this.clock(seconds) : `${day} ${this.clock(seconds)}`;
  }
}

const two = (n) => String(n).padStart(2, "0");
