// The connection to the service: it comes back by itself.

import { decode } from "./store.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
/** The service says how it is every second; silence for so long is a dead connection. */
const SILENCE_MS = 6000;

export class Link {
  /**
   * @param onColumns takes a decoded message of columns.
   * @param onStatus takes {type, ...}: sensors, health or alerts.
   * @param onState takes whether there is a connection, and if not, in how many ms it is tried.
   */
  constructor({ onColumns, onStatus, onState }) {
    Object.assign(this, { onColumns, onStatus, onState });
    this.wait = FIRST_WAIT_MS;
    this.timer = null;
    this.heard = 0;
    for (const event of ["online", "pageshow"]) addEventListener(event, () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    setInterval(() => this.mind(), 1000);
    this.open();
  }

  open() {
    this.timer = null;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.socket = new WebSocket(`${scheme}://${location.host}/stream`));
    this.heard = performance.now();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.heard = performance.now();
      this.onState(true, 0);
    };
    socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      this.wait = FIRST_WAIT_MS;
      if (typeof data === "string") this.onStatus(JSON.parse(data));
      else this.onColumns(decode(data));
    };
    socket.onclose = ({ code }) => {
      if (this.socket !== socket) return;
      this.lost(code);
    };
  }

  lost(code) {
    this.socket = null;
    const wait = code === 1013 ? LONGEST_WAIT_MS : this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
    this.onState(false, wait, code);
    this.timer = setTimeout(() => this.open(), wait);
    // A cookie that is no longer good: only the way in helps.
    if (code === 1006) {
      fetch("/", { cache: "no-store" }).then(
        (answer) => answer.status === 401 && location.reload(),
        () => {},
      );
    }
  }

  mind() {
    if (this.socket && performance.now() - this.heard > SILENCE_MS) {
      const dead = this.socket;
      this.socket = null;
      dead.close();
      this.lost(0);
    }
  }

  hurry() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.open();
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
