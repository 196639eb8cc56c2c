/** Toolbar: buttons by name, and the window, heat and second-image controls below them. */

import { COMMANDS, command } from "./commands.js";
import { element } from "./dom.js";

const GROUPS = [
  ["window", "scroll", "pan"],
  ["ruler", "box", "boxwindow", "clear"],
  ["auto", "invert"],
  ["zoomin", "zoomout", "actual", "reset"],
  ["heat", "planes", "two", "swap", "link", "blink"],
  ["help"],
];
const FINE = 1000;

export class Toolbar {
  constructor(app) {
    this.app = app;
    this.buttons = new Map();
    this.presets = element("div", { class: "group presets" });
    this.shownPane = null;
    const groups = GROUPS.map((names) => {
      return element("div", { class: "group" }, ...names.map((name) => this.button(name)));
    });
    this.bar = element(
      "div", { class: "bar", role: "toolbar", "aria-label": app.words.toolbar },
      ...groups, this.presets,
    );
    this.panel = this.controls();
    this.bar.addEventListener("focusin", (event) => this.rove(event.target));
  }

  title(name) {
    const { key } = COMMANDS[name];
    return `${this.app.words.titles[name]} (${key.length > 1 ? key : key.toUpperCase()})`;
  }

  button(name) {
    const { names } = this.app.words;
    const { on } = COMMANDS[name];
    const made = element(
      "button",
      { type: "button", title: this.title(name), "data-command": name, tabindex: "-1", "aria-pressed": on === undefined ? null : "false" },
      names[name],
    );
    made.addEventListener("click", () => command(this.app, name));
    this.buttons.set(name, made);
    return made;
  }

  field(label, attributes, changed) {
    const input = element("input", attributes);
    input.addEventListener("input", () => {
      if (Number.isFinite(input.valueAsNumber)) {
        changed(input.valueAsNumber);
      }
    });
    return { input, label: element("label", {}, element("span", {}, label), input) };
  }

  controls() {
    const { words } = this.app;
    const range = { type: "range", step: "any" };
    const number = { type: "number", step: "any" };
    const set = (change) => (value) => {
      change(this.app.active.source, value);
      this.app.windowed(this.app.active);
    };
    this.low = this.field(words.low, { ...range, "data-field": "low" }, set((source, value) => {
      source.setLimits(value, Math.max(source.limits()[1], value));
    }));
    this.high = this.field(words.high, { ...range, "data-field": "high" }, set((source, value) => {
      source.setLimits(Math.min(source.limits()[0], value), value);
    }));
    this.centre = this.field(words.centre, { ...number, "data-field": "centre" }, set((source, value) => {
      source.setWindow(value, source.look.width);
    }));
    this.width = this.field(words.width, { ...number, min: "0", "data-field": "width" }, set((source, value) => {
      source.setWindow(source.look.centre, value);
    }));
    this.opacity = this.field(
      words.opacity, { type: "range", min: "0", max: "1", step: "0.05", "data-field": "opacity" },
      (value) => this.app.setOpacity(value),
    );
    this.other = element("select", { "data-field": "other" });
    this.app.sources.slice(1).forEach(({ pane, index }) => {
      this.other.append(element("option", { value: String(index) }, pane.label));
    });
    this.other.addEventListener("change", () => this.app.setOther(Number(this.other.value)));
    this.otherLabel = element("label", {}, element("span", {}, words.other), this.other);
    return element(
      "div", { class: "controls", role: "group", "aria-label": words.controls },
      this.low.label, this.high.label, this.centre.label, this.width.label,
      this.opacity.label, this.otherLabel,
    );
  }

  fillPresets() {
    const { source } = this.app.active;
    if (source === this.shownPane) {
      return;
    }
    this.shownPane = source;
    this.presets.replaceChildren(
      ...source.pane.presets.map(({ name }, k) => {
        const label = k < 9 ? `${k + 1} ${name}` : name;
        const made = element("button", { type: "button", tabindex: "-1", "data-preset": String(k) }, label);
        made.addEventListener("click", () => this.app.preset(k));
        return made;
      }),
    );
  }

  /** Show what is offered and on now. */
  sync() {
    const { app } = this;
    this.fillPresets();
    for (const [name, made] of this.buttons) {
      const { on, when, barred } = COMMANDS[name];
      made.hidden = when !== undefined && !when(app);
      made.disabled = barred !== undefined && barred(app);
      made.title = made.disabled ? app.words.barred[name] : this.title(name);
      if (on !== undefined) {
        made.setAttribute("aria-pressed", String(on(app)));
      }
    }
    this.opacity.label.hidden = !app.hasHeat() || !app.heatOn;
    this.opacity.input.value = String(app.opacity);
    this.otherLabel.hidden = app.mode !== "two" || app.sources.length < 3;
    this.syncWindow();
    this.rove(null);
  }

  syncWindow() {
    const { source } = this.app.active;
    const { look, pane } = source;
    if (look.centre === null) {
      return;
    }
    const [low, high] = source.limits();
    const whole = pane.dtype !== "f4";
    const step = whole ? "1" : String((pane.high - pane.low) / FINE || "any");
    const [from, to] = [Math.min(pane.low, low), Math.max(pane.high, high)];
    for (const [field, value] of [[this.low, low], [this.high, high]]) {
      Object.assign(field.input, { min: String(from), max: String(to), step });
      this.put(field.input, value);
    }
    this.put(this.centre.input, look.centre);
    this.put(this.width.input, look.width);
  }

  /** Write a value, but never under the reader's typing. */
  put(input, value) {
    const typing = input.type === "number" && input.getRootNode().activeElement === input;
    if (!typing) {
      input.value = String(Number(value.toPrecision(7)));
    }
  }

  visible() {
    return [...this.bar.querySelectorAll("button")].filter((b) => !b.hidden && !b.disabled);
  }

  /** One tab stop for the whole bar: the button used last, else the first. */
  rove(target) {
    const buttons = this.visible();
    const kept = buttons.find((b) => b.tabIndex === 0) || buttons[0];
    const chosen = buttons.includes(target) ? target : kept;
    this.bar.querySelectorAll("button").forEach((b) => {
      b.tabIndex = b === chosen ? 0 : -1;
    });
  }

  /** Left and Right move along the bar; true if they did. */
  walk(target, key) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    const buttons = this.visible();
    const at = buttons.indexOf(target);
    if (step === undefined || at < 0) {
      return false;
    }
    buttons[(at + step + buttons.length) % buttons.length].focus();
    return true;
  }
}
