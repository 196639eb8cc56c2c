/** App: one viewer on a page: which images it shows, how they are laid out, what it tells Python. */

import { element } from "./dom.js";
import { onKey } from "./keys.js";
import { Link } from "./link.js";
import { Loader } from "./loader.js";
import { keepTrace, moveCross } from "./marks.js";
import { keyPanel } from "./overlay.js";
import { Source } from "./source.js";
import { Toolbar } from "./toolbar.js";
import { View } from "./view.js";

const HABITS = ["window", "scroll", "pan"];
const HIGHEST = 0.75;
const LOWEST = 180;
const NARROWEST = 200;
const GAP = 8;
const FRAME = 6;
const BLINK_MS = 1000;
const SETTLE_MS = 400;
const MOST_ACTS = 20;

export class App {
  constructor(home) {
    this.home = home;
    this.data = { id: null };
    this.habit = null;
    this.opacity = 0.5;
    this.count = 0;
    this.acts = [];
    this.views = [];
    this.blinking = null;
    this.loader = new Loader((source) => this.arrived(source));
    home.addEventListener("keydown", (event) => onKey(this, event));
    this.sizes = new ResizeObserver(() => this.layOut());
    this.sizes.observe(home);
    this.onWindowSize = () => this.layOut();
    window.addEventListener("resize", this.onWindowSize);
  }

  close() {
    this.sizes.disconnect();
    window.removeEventListener("resize", this.onWindowSize);
    this.stopBlink();
    this.loader.reset();
  }

  /** New data from Python: another case, or additions to this one. */
  receive(data) {
    if (data.id === this.data.id) {
      this.update(data);
    } else {
      this.open(data);
    }
  }

  /** Make a change; focus that was inside the viewer and got lost goes to the picture. */
  guard(change) {
    const root = this.home.getRootNode();
    const inside = this.home.contains(root.activeElement);
    change();
    const now = root.activeElement;
    if (inside && (!this.home.contains(now) || !now.checkVisibility())) {
      this.active.canvas.focus({ preventScroll: true });
    }
  }

  open(data) {
    this.data = data;
    this.words = data.words;
    this.loader.reset();
    this.stopBlink();
    clearTimeout(this.settling);
    this.sources = data.panes.map((pane, index) => new Source(pane, index));
    this.other = 1;
    this.swapped = false;
    this.heatOn = false;
    this.link = new Link();
    this.habit = this.habit || data.habits.drag;
    this.tool = this.habit;
    this.frame("one");
    this.loader.prefetch(data.next);
  }

  /** Rebuild everything around the images. */
  frame(mode) {
    this.guard(() => {
      this.toolbar = new Toolbar(this);
      this.help = keyPanel(this.words);
      this.row = element("div", { class: "row" });
      this.home.replaceChildren(this.toolbar.bar, this.row, this.toolbar.panel, this.help);
      this.setMode(mode);
    });
  }

  update(data) {
    const old = this.data;
    const changed = (name) => JSON.stringify(old[name]) !== JSON.stringify(data[name]);
    const [words, next] = [changed("words"), changed("next")];
    this.data = { ...old, words: data.words, next: data.next };
    data.panes.forEach((pane, k) => this.renew(this.sources[k], pane));
    if (words) {
      this.words = data.words;
      this.frame(this.mode);
    }
    if (next) {
      this.loader.prefetch(data.next);
    }
  }

  renew(source, pane) {
    if (JSON.stringify(source.pane.heat) !== JSON.stringify(pane.heat)) {
      source.setHeat(pane.heat);
      this.heatOn = this.heatOn && this.hasHeat();
      this.redraw();
    }
    if (source.pane.url !== pane.url) {
      source.readdress(pane.url);
      this.loader.pump();
    }
  }

  isThree() {
    return this.mode === "three";
  }

  setMode(mode) {
    this.mode = mode;
    this.stopBlink();
    const [first] = this.sources;
    const second = this.sources[this.other];
    const shown = {
      one: () => [[first, "axial"]],
      two: () => (this.swapped ? [[second, "axial"], [first, "axial"]] : [[first, "axial"], [second, "axial"]]),
      three: () => ["axial", "coronal", "sagittal"].map((kind) => [first, kind]),
    }[mode]();
    this.guard(() => {
      this.views = shown.map(([source, kind]) => new View(this, source, kind));
      this.row.replaceChildren(...this.views.map((view) => view.section));
      this.active = this.views.find((view) => view.source === first);
      this.layOut();
    });
    if (mode === "two" && this.link.on) {
      this.link.scroll(this.active, this.twin(this.active));
    }
    this.loader.want([...new Set([first, ...this.views.map((view) => view.source)])]);
    this.redraw();
  }

  /** The other image of a pair; undefined outside side by side. */
  twin(view) {
    return this.mode === "two" ? this.views.find((other) => other !== view) : undefined;
  }

  setOther(index) {
    this.other = index;
    this.link.offset = 0;
    this.setMode("two");
  }

  swap() {
    this.swapped = !this.swapped;
    this.views.reverse();
    this.guard(() => this.row.append(...this.views.map((view) => view.section)));
  }

  toggleLink() {
    this.link.on = !this.link.on;
    if (this.link.on) {
      this.link.rejoin(this.views);
    }
  }

  toggleBlink() {
    if (this.blinking !== null) {
      this.stopBlink();
      return;
    }
    this.blinking = setInterval(() => this.show(this.twin(this.active)), BLINK_MS);
    this.show(this.active);
  }

  /** Turn to one of the two images that blink. */
  show(view) {
    this.guard(() => {
      this.active = view;
      this.layOut();
    });
    this.toolbar.sync();
  }

  stopBlink() {
    clearInterval(this.blinking);
    const was = this.blinking;
    this.blinking = null;
    if (was !== null) {
      this.layOut();
    }
  }

  /** Share the width out; heights keep the aspect below three quarters of the window. */
  layOut() {
    const width = this.home.clientWidth;
    if (width === 0 || this.views.length === 0) {
      return;
    }
    const count = this.blinking === null ? this.views.length : 1;
    const across = width / count >= NARROWEST ? count : 1;
    const each = Math.floor((width - GAP * (across - 1)) / across) - FRAME;
    this.row.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
    const wish = ({ plane, aspect }) => (each * plane.rows * aspect) / plane.cols;
    const high = Math.max(...this.views.map(wish), LOWEST);
    const height = Math.round(Math.min(high, window.innerHeight * HIGHEST));
    this.views.forEach((view) => {
      view.section.hidden = this.blinking !== null && view !== this.active;
      view.resize(each, height);
    });
  }

  arrived(source) {
    this.views.filter((view) => view.source === source).forEach((view) => {
      if (view.canvas.dataset.ready !== "true") {
        view.queue();
      }
    });
  }

  retry(source) {
    source.failed.clear();
    this.active.canvas.focus({ preventScroll: true });
    this.loader.pump();
    this.redraw();
  }

  redraw() {
    this.views.forEach((view) => view.queue());
    this.guard(() => this.toolbar.sync());
  }

  drawn(view) {
    if (view === this.active) {
      this.toolbar.syncWindow();
    }
  }

  activate(view) {
    if (view === this.active) {
      return;
    }
    this.active = view;
    this.toolbar.sync();
  }

  /** A view moved to another slice. */
  moved(view) {
    const twin = this.twin(view);
    if (twin !== undefined && this.link.on) {
      this.link.scroll(view, twin);
    }
    this.views.forEach((other) => other.queue());
    this.loader.pump();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tell.state("slice", this.sources[0].cross.z), SETTLE_MS);
  }

  zoomed(view) {
    const twin = this.twin(view);
    if (twin !== undefined && this.link.on) {
      this.link.zoom(view, twin);
    }
  }

  windowed(view) {
    const twin = this.twin(view);
    if (twin !== undefined && this.link.on) {
      this.link.window(view, twin);
    }
    this.redraw();
  }

  preset(k) {
    const chosen = this.active.source.pane.presets[k];
    if (chosen !== undefined) {
      this.active.source.setWindow(chosen.centre, chosen.width);
      this.windowed(this.active);
    }
  }

  automatic() {
    if (this.active.values !== null) {
      this.active.source.automatic(this.active.values);
      this.windowed(this.active);
    }
  }

  reset() {
    this.views.forEach((view) => {
      view.source.reset();
      view.fit();
    });
    this.redraw();
  }

  hasHeat() {
    return this.sources.some(({ pane }) => pane.heat !== null);
  }

  toggleHeat() {
    this.heatOn = !this.heatOn;
    this.redraw();
  }

  setOpacity(value) {
    this.opacity = value;
    this.redraw();
  }

  setTool(name) {
    this.tool = this.tool === name ? this.habit : name;
    this.views.forEach((view) => Object.assign(view, { cursor: null, trace: null }));
    if (HABITS.includes(name) && name !== this.habit) {
      this.habit = name;
      this.tool = name;
      this.act("habit", name);
    }
    this.redraw();
  }

  traced(view, trace) {
    keepTrace(this, view, trace);
    view.cursor = null;
    this.redraw();
  }

  clicked(view, at) {
    if (this.isThree() && moveCross(view, at)) {
      this.moved(view);
    }
  }

  hasMarks() {
    return this.views.some(({ marks }) => marks.ruler !== null || marks.box !== null);
  }

  canEscape() {
    return this.hasMarks() || this.tool !== this.habit;
  }

  /** Leave the tool and take away what was drawn. */
  escape() {
    const boxed = this.views.some(({ marks }) => marks.box !== null);
    this.tool = this.habit;
    this.views.forEach((view) => {
      Object.assign(view, { marks: { ruler: null, box: null }, trace: null, cursor: null });
    });
    if (boxed) {
      this.tell.trigger("box", null);
    }
    this.redraw();
  }

  openHelp() {
    this.help.showModal();
    this.act("help", null);
  }

  /** Tell Python of an act; n grows with every one. */
  act(what, value) {
    this.count = Math.max(this.count + 1, Date.now());
    const told = { what, n: this.count, value, id: this.data.id };
    // Keys may be faster than the server: each message carries those before it, lest one be lost.
    this.tell.trigger("act", { ...told, earlier: this.acts.slice() });
    this.acts = [...this.acts, told].slice(-MOST_ACTS);
  }
}
