/** Pointer: mouse, pen and touch on one stage. */

import { clamp } from "./geometry.js";

const CLICK = 4;
const NOTCH = 50;
const TRACKPAD = 30;
const LEAST_STEP = 4;
const MOST_STEP = 30;
const WINDOW_STEP = 256;

/** Finish a drawn line or rectangle: the app keeps what it means. */
function finishTrace(view) {
  const { trace } = view;
  view.trace = null;
  view.app.traced(view, trace);
}

const TRACE = {
  start(view, job) {
    const { x, y } = view.toImage(job.x, job.y);
    view.trace = { tool: job.tool, k: view.k, x0: x, y0: y, x1: x, y1: y };
  },
  move(view, job, at) {
    const { x, y } = view.toImage(at.x, at.y);
    Object.assign(view.trace, { x1: x, y1: y });
    view.queue();
  },
  end: finishTrace,
};

const DRAGS = {
  window: {
    start(view, job) {
      job.look = { ...view.source.look };
    },
    move(view, job, at) {
      const { centre, width } = job.look;
      if (centre === null) {
        return;
      }
      const step = width / WINDOW_STEP;
      const [c, w] = [centre + (at.y - job.y) * step, width + (at.x - job.x) * step];
      const whole = view.source.pane.dtype !== "f4";
      view.source.setWindow(whole ? Math.round(c) : c, whole ? Math.round(w) : Math.max(w, step));
      view.app.windowed(view);
    },
  },
  scroll: {
    start(view, job) {
      job.k = view.k;
    },
    move(view, job, at) {
      const step = clamp(view.height / view.plane.count, LEAST_STEP, MOST_STEP);
      view.go(job.k + Math.round((at.y - job.y) / step));
    },
  },
  pan: {
    start(view, job) {
      job.place = { ...view.place };
    },
    move(view, job, at) {
      const { place } = view;
      view.pan(job.place.x + at.x - job.x - place.x, job.place.y + at.y - job.y - place.y);
      view.app.zoomed(view);
    },
  },
  ruler: TRACE,
  box: TRACE,
  boxwindow: TRACE,
};

export class Pointer {
  constructor(view) {
    this.view = view;
    this.down = new Map();
    this.job = null;
    this.rolled = 0;
    const { stage } = view;
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.lift(event, false));
    stage.addEventListener("pointercancel", (event) => this.lift(event, true));
    stage.addEventListener("pointerleave", () => view.hover(null));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  at(event) {
    const box = this.view.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  toolOf(event) {
    if (event.button === 2) {
      return "window";
    }
    return event.button === 1 || event.shiftKey ? "pan" : this.view.app.tool;
  }

  press(event) {
    if (event.target === this.view.retry) {
      return;
    }
    const { view } = this;
    const at = this.at(event);
    event.preventDefault();
    view.canvas.focus({ preventScroll: true });
    view.app.activate(view);
    this.down.set(event.pointerId, at);
    view.stage.setPointerCapture(event.pointerId);
    if (this.down.size === 2) {
      this.cancel();
      const pair = this.pair();
      this.job = { tool: "pinch", ...pair, zoom: view.place.zoom, held: view.toImage(pair.x, pair.y) };
    } else if (this.down.size === 1) {
      this.job = { tool: this.toolOf(event), ...at, far: 0 };
      this.step("start", at);
    }
  }

  step(name, at) {
    const drag = DRAGS[this.job.tool];
    if (drag !== undefined && drag[name] !== undefined) {
      drag[name](this.view, this.job, at);
    }
  }

  /** Middle and distance of two fingers. */
  pair() {
    const [a, b] = [...this.down.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  move(event) {
    const { view, job } = this;
    const at = this.at(event);
    view.hover(view.toImage(at.x, at.y));
    if (!this.down.has(event.pointerId) || job === null) {
      return;
    }
    this.down.set(event.pointerId, at);
    if (job.tool === "pinch") {
      this.pinch();
      return;
    }
    job.far = Math.max(job.far, Math.hypot(at.x - job.x, at.y - job.y));
    this.step("move", at);
  }

  pinch() {
    const { view, job } = this;
    const now = this.pair();
    view.zoomTo((job.zoom * now.apart) / Math.max(job.apart, 1), now.x, now.y);
    const at = view.toStage(job.held.x, job.held.y);
    view.pan(now.x - at.x, now.y - at.y);
    view.app.zoomed(view);
  }

  lift(event, cancelled) {
    const { view, job } = this;
    const known = this.down.delete(event.pointerId);
    if (!known || job === null) {
      return;
    }
    if (cancelled || job.tool === "pinch") {
      this.cancel();
    } else {
      this.step("end", this.at(event));
      if (job.far < CLICK && event.button === 0) {
        view.app.clicked(view, view.toImage(job.x, job.y));
      }
    }
    this.job = null;
  }

  cancel() {
    this.view.trace = null;
    this.job = null;
    this.view.queue();
  }

  wheel(event) {
    const { view } = this;
    const at = this.at(event);
    if (event.ctrlKey) {
      event.preventDefault();
      view.zoomTo(view.place.zoom * Math.exp(-clamp(event.deltaY, -NOTCH, NOTCH) / 200), at.x, at.y);
      view.app.zoomed(view);
    } else if (view.plane.count > 1) {
      event.preventDefault();
      view.app.activate(view);
      view.go(view.k + this.notches(event));
    }
  }

  /** Slices of one wheel event: a notch is one, a trackpad's small moves add up. */
  notches(event) {
    if (event.deltaMode !== 0 || Math.abs(event.deltaY) >= NOTCH) {
      return Math.sign(event.deltaY);
    }
    this.rolled += event.deltaY;
    const whole = Math.trunc(this.rolled / TRACKPAD);
    this.rolled -= whole * TRACKPAD;
    return whole;
  }
}
