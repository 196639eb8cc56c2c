/** Keys: what the keyboard does while the focus is inside the viewer. */

import { COMMANDS, command } from "./commands.js";
import { clamp } from "./geometry.js";

const DRAWING = ["ruler", "box", "boxwindow"];
const PAN = 40;
const FAR = 10;
const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const BY_KEY = new Map(Object.entries(COMMANDS).map(([name, { key }]) => [key, name]));
BY_KEY.set("=", "zoomin");

/** Keys that a focused control needs for itself. */
function ownKeys(target, key) {
  if (target.matches("input[type=number], select, dialog, dialog *")) {
    return true;
  }
  if (target.matches("input[type=range]")) {
    return key in ARROWS || ["Home", "End", "PageUp", "PageDown"].includes(key);
  }
  return target.matches("button") && (key === "Enter" || key === " ");
}

/** Slice that a key leads to, or null. */
function sliceOf(view, key) {
  const last = view.plane.count - 1;
  const tenth = Math.max(1, Math.round(view.plane.count / 10));
  const to = {
    ArrowUp: view.k - 1, ArrowDown: view.k + 1, PageUp: view.k - tenth,
    PageDown: view.k + tenth, Home: 0, End: last,
  }[key];
  return last === 0 || to === undefined ? null : to;
}

/** Draw by keyboard: arrows move a cross, Enter sets its two ends. */
function drawKey(app, view, event) {
  const step = ARROWS[event.key];
  if (step === undefined && event.key !== "Enter") {
    return false;
  }
  const { cols, rows } = view.plane;
  if (view.cursor === null) {
    view.cursor = { x: cols >> 1, y: rows >> 1 };
  } else if (step !== undefined) {
    const by = event.shiftKey ? FAR : 1;
    view.cursor.x = clamp(view.cursor.x + step[0] * by, 0, cols);
    view.cursor.y = clamp(view.cursor.y + step[1] * by, 0, rows);
  }
  const { x, y } = view.cursor;
  if (view.trace !== null) {
    Object.assign(view.trace, { x1: x, y1: y });
  }
  if (event.key === "Enter") {
    setEnd(app, view, x, y);
  }
  view.hover(view.cursor);
  view.queue();
  return true;
}

function setEnd(app, view, x, y) {
  if (view.trace === null) {
    view.trace = { tool: app.tool, k: view.k, x0: x, y0: y, x1: x, y1: y };
  } else {
    const { trace } = view;
    view.trace = null;
    app.traced(view, trace);
  }
}

function moveKey(app, view, event) {
  const step = ARROWS[event.key];
  if (event.shiftKey && step !== undefined) {
    view.pan(step[0] * PAN, step[1] * PAN);
    app.zoomed(view);
    return true;
  }
  const to = sliceOf(view, event.key);
  if (to !== null) {
    view.go(to);
  }
  return to !== null;
}

function commandKey(app, event) {
  if (/^[1-9]$/.test(event.key)) {
    app.preset(Number(event.key) - 1);
    return true;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const name = BY_KEY.get(key);
  if (name === undefined || (name === "clear" && !app.canEscape())) {
    return false;
  }
  if (!event.repeat || !COMMANDS[name].act) {
    name === "clear" ? app.escape() : command(app, name);
  }
  return true;
}

/** Answer a keydown inside the viewer. */
export function onKey(app, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") {
    return;
  }
  const target = event.composedPath()[0];
  if (ownKeys(target, event.key)) {
    event.stopPropagation();
    return;
  }
  const view = app.active;
  const done =
    app.toolbar.walk(target, event.key) ||
    (DRAWING.includes(app.tool) && drawKey(app, view, event)) ||
    moveKey(app, view, event) ||
    commandKey(app, event);
  if (done) {
    event.preventDefault();
    event.stopPropagation();
  }
}
