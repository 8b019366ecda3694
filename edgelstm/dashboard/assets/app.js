// The page: what it knows, and when it draws.

import { AlertDialog, listAlerts } from "./alerts.js";
import { Zone, ago, span } from "./format.js";
import { Link } from "./link.js";
import { Signal } from "./signal.js";
import { Store, windowsFor } from "./store.js";
import { element, healthRows, isOpen, kindOf, overall, seconds, stateOf, upFor } from "./words.js";

const FRAME_MS = 95; // a tenth of a second, as the messages come
const READ_MS = 250; // numbers that change faster cannot be read
const ALOUD_MS = 5000;
const MOST_STORES = 8;
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };

const $ = (id) => document.getElementById(id);
const setting = {
  get(name, otherwise) {
    try {
      return localStorage.getItem(`edgelstm.${name}`) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`edgelstm.${name}`, value);
    } catch {
      // It holds until the page is left.
    }
  },
};

/** For tests and for the curious, see the console. */
export const page = {
  zone: new Zone(setting.get("zone", "local") === "utc"),
  sensors: [],
  health: null,
  healthAt: 0,
  alerts: [],
  stores: new Map(),
  chosen: "",
  window: 0,
  connected: false,
  arrived: null,
  dirty: false,
  news: null,
};

const signal = new Signal({ scorePlot: $("score-plot"), scoreNow: $("score-now"), channels: $("channels") });
const dialog = new AlertDialog($("alert"));

// --- what comes in -------------------------------------------------------------------------------

const link = new Link({
  onColumns(message) {
    const { sensor } = message.header;
    const store = page.stores.get(sensor);
    if (!store || sensor !== page.chosen) return;
    if (store.take(message)) {
      page.arrived = performance.now();
      page.dirty = true;
    }
  },
  onStatus(message) {
    if (message.type === "sensors") takeSensors(message.sensors);
    else if (message.type === "health") takeHealth(message.health);
    else if (message.type === "alerts") takeAlerts(message.alerts);
  },
  onState(connected, wait, code) {
    page.connected = connected;
    const banner = $("banner");
    banner.hidden = connected;
    if (!connected) {
      banner.textContent =
        code === 1013
          ? "Too many pages look on already; this one tries again every few seconds."
          : "The connection to the service is lost; it is tried again all the time.";
    }
    if (connected) link.asked = "";
    showState();
  },
});

function takeSensors(sensors) {
  page.sensors = sensors;
  for (const [name, store] of page.stores) {
    const info = sensors.find((one) => one.name === name);
    if (!info || !store.fits(info)) page.stores.delete(name);
  }
  const wanted = page.chosen || decodeURIComponent(location.hash.slice(1));
  const names = sensors.map((one) => one.name);
  choose(names.includes(wanted) ? wanted : (names[0] ?? ""));
}

function takeHealth(health) {
  page.health = health;
  page.healthAt = performance.now();
  showState();
  showSensors();
  showHealth();
}

function takeAlerts(alerts) {
  const known = new Map(page.alerts.map((one) => [one.alert_id, one.id]));
  if (page.news !== null) {
    const fresh = alerts.find((one) => isOpen(one) && !known.has(one.alert_id));
    if (fresh) $("announcer").textContent = `Alert opened: ${kindOf(fresh)} ${fresh.sensor}`;
  }
  page.news = alerts.length;
  page.alerts = alerts;
  page.dirty = true;
  showAlerts();
  showState();
  const shown = dialog.alert && alerts.find((one) => one.alert_id === dialog.alert.alert_id);
  if (shown) dialog.update(shown);
}

// --- what is looked at ---------------------------------------------------------------------------

function choose(name) {
  const info = page.sensors.find((one) => one.name === name);
  if (!info) {
    page.chosen = "";
    return;
  }
  let store = page.stores.get(name);
  const anew = !store || page.chosen !== name;
  if (!store) store = new Store(info);
  page.stores.delete(name);
  page.stores.set(name, store); // the last one used is last
  while (page.stores.size > MOST_STORES) page.stores.delete(page.stores.keys().next().value);
  page.chosen = name;
  const asked = `${name} ${info.sha256}`;
  if (link.asked !== asked) {
    link.asked = asked;
    link.send({ subscribe: name, epoch: store.epoch, since: store.to });
  }
  if (anew) {
    page.arrived = null;
    signal.build(info, page.zone);
    showWindows(info);
    $("sensor-name").textContent = name;
    page.dirty = true;
    signal.read(store, true);
  }
  showSensors();
}

function showWindows(info) {
  const windows = windowsFor(info.sample_period);
  const kept = Number(setting.get("window", 0));
  // By default what shows a hundred readings or more.
  page.window = windows.includes(kept)
    ? kept
    : (windows.find((one) => one >= 100 * info.sample_period) ?? windows[windows.length - 1]);
  $("windows").replaceChildren(
    ...windows.map((one) => {
      const button = element("button", "", span(one));
      button.type = "button";
      button.setAttribute("aria-pressed", String(one === page.window));
      button.addEventListener("click", () => {
        setting.set("window", one);
        showWindows(info);
        page.dirty = true;
      });
      return button;
    }),
  );
}

// --- what is shown -------------------------------------------------------------------------------

function mark(status) {
  const made = element("span", "mark");
  made.dataset.status = status;
  made.setAttribute("aria-hidden", "true");
  return made;
}

/** Sets a text only when it is another: screen readers and layouts keep calm. */
function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function showState() {
  document.body.dataset.connected = String(page.connected);
  const open = page.alerts.filter(isOpen).length;
  const [status, text] = !page.connected
    ? ["waiting", "No connection"]
    : page.health
      ? overall(page.health, open)
      : ["waiting", "Connecting"];
  $("state").dataset.status = status;
  say($("state-text"), text);
  const gateway = page.health?.gateway ?? "edgelstm";
  say($("gateway"), gateway);
  document.title = status === "ok" ? gateway : `${text} \u2013 ${gateway}`;
  const problems = page.connected ? (page.health?.problems ?? []) : [];
  const list = $("problems");
  if (list.dataset.shown !== problems.join("\n")) {
    list.dataset.shown = problems.join("\n");
    list.replaceChildren(...problems.map((one) => element("li", "", one)));
    list.hidden = !problems.length;
  }
}

function showSensors() {
  const nav = $("sensors");
  nav.hidden = page.sensors.length < 2;
  if (nav.hidden) return;
  const states = new Map(page.health?.sensors.map((one) => [one.name, stateOf(one)]) ?? []);
  const names = page.sensors.map((one) => one.name);
  if (nav.dataset.names !== JSON.stringify(names)) {
    nav.dataset.names = JSON.stringify(names);
    nav.replaceChildren(
      ...names.map((name) => {
        const button = element("button", "", mark("waiting"), element("b", "", name), element("span", "word"));
        button.type = "button";
        button.addEventListener("click", () => {
          history.replaceState(null, "", `#${encodeURIComponent(name)}`);
          choose(name);
        });
        return button;
      }),
    );
  }
  names.forEach((name, at) => {
    const button = nav.children[at];
    const [status, word] = states.get(name) ?? ["waiting", ""];
    button.firstChild.dataset.status = status;
    say(button.lastChild, word);
    button.setAttribute("aria-pressed", String(name === page.chosen));
  });
}

function showAlerts() {
  const open = page.alerts.filter(isOpen).length;
  say($("alerts-count"), page.alerts.length ? `${open ? `${open} open of` : ""} ${page.alerts.length}`.trim() : "");
  const sorted = [...page.alerts].sort((a, b) => isOpen(b) - isOpen(a));
  listAlerts($("alerts"), sorted, {
    zone: page.zone,
    several: page.sensors.length > 1,
    choose(id) {
      const alert = page.alerts.find((one) => one.alert_id === id);
      if (alert) dialog.show(alert, page.zone, page.sensors.find((one) => one.name === alert.sensor));
    },
  });
}

function showHealth() {
  const rows = healthRows(page.health, page.zone);
  const list = $("health");
  const shown = JSON.stringify(rows);
  say($("uptime"), `${upFor(page.health)} \u00b7 ${page.health.version}`);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(
    ...rows.flatMap(([status, kind, name, word, lines, problem]) => [
      element("dt", "", mark(status), element("span", "kind", kind), name ? element("b", "", name) : null, element("span", "word", word)),
      element("dd", "", problem ? element("p", "problem", problem) : null, element("p", "", lines.join(" "))),
    ]),
  );
}

function showLife(now) {
  const own = page.health?.sensors.find((one) => one.name === page.chosen);
  let age = null;
  if (page.arrived !== null) age = (now - page.arrived) / 1000;
  else if (own?.last_reading !== null && own) age = own.silent_for + (now - page.healthAt) / 1000;
  const info = page.sensors.find((one) => one.name === page.chosen);
  const late = age !== null && info && age > Math.max(5, 5 * info.sample_period);
  $("life").dataset.late = String(Boolean(late) || !page.connected);
  say($("age"), age === null ? "No reading yet" : `Last reading ${ago(age)}`);
}

function showZone() {
  say($("zone"), page.zone.name);
  $("zone").setAttribute("aria-label", `Times are in ${page.zone.name}; change`);
}

function showTheme() {
  const theme = setting.get("theme", "auto");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  say($("theme"), `\u25d0 ${THEMES[theme] ?? THEMES.auto}`);
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[theme]}; change`);
}

function redo() {
  signal.rebuild(page.zone);
  dialog.zone = page.zone;
  dialog.draw();
  page.dirty = true;
}

$("zone").addEventListener("click", () => {
  page.zone = new Zone(!page.zone.utc);
  setting.set("zone", page.zone.utc ? "utc" : "local");
  showZone();
  showAlerts();
  if (page.health) showHealth();
  redo();
});
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setting.set("theme", names[(names.indexOf(setting.get("theme", "auto")) + 1) % names.length]);
  showTheme();
  redo();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redo);

// --- the drawing ---------------------------------------------------------------------------------

let [drawn, read, aloud] = [0, 0, 0];

function spansOf(sensor) {
  return page.alerts
    .filter((one) => one.sensor === sensor)
    .map((one) => ({
      begin: seconds(one.opened),
      end: one.closed ? seconds(one.closed) : Infinity,
      severity: one.severity,
    }));
}

function frame(now) {
  requestAnimationFrame(frame);
  if (now - drawn < FRAME_MS) return;
  const store = page.stores.get(page.chosen);
  if (page.dirty && store) {
    page.dirty = false;
    drawn = now;
    signal.draw(store, page.window, spansOf(page.chosen));
    $("pulse").classList.toggle("beat", page.arrived !== null && now - page.arrived < 500 && Math.floor(now / 500) % 2 === 0);
  }
  if (now - read > READ_MS) {
    read = now;
    showLife(now);
    if (store && signal.info) {
      signal.read(store, now - aloud > ALOUD_MS);
      if (now - aloud > ALOUD_MS) aloud = now;
    }
  }
}

showZone();
showTheme();
showAlerts();
requestAnimationFrame(frame);
