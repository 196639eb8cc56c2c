/** View: one plane on one canvas, where it lies on its stage, and what is said beside it. */

import { element, setText, shape } from "./dom.js";
import { aspectOf, clamp, planeOf } from "./geometry.js";
import { BLACK, mixHeat, paint } from "./pixels.js";
import { describe, drawShapes, placeTexts, sayValue } from "./overlay.js";
import { Pointer } from "./pointer.js";

const MOST_ZOOM = 16;
const KEPT_IN_SIGHT = 40;

export class View {
  constructor(app, source, kind) {
    this.app = app;
    this.source = source;
    this.kind = kind;
    this.plane = planeOf(source.pane, kind);
    this.aspect = aspectOf(this.plane);
    this.place = { fit: true, zoom: 1, x: 0, y: 0 };
    this.marks = { ruler: null, box: null };
    this.trace = null;
    this.cursor = null;
    this.width = 0;
    this.height = 0;
    this.frame = null;
    this.values = null;
    this.build();
    this.pointer = new Pointer(this);
  }

  get k() {
    return this.source.cross[this.plane.axes.index];
  }

  build() {
    const { words } = this.app;
    const { pane } = this.source;
    this.canvas = element("canvas", { tabindex: "0", role: "img", "data-id": this.app.data.id });
    this.canvas.width = this.plane.cols;
    this.canvas.height = this.plane.rows;
    this.context = this.canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.image = this.context.createImageData(this.plane.cols, this.plane.rows);
    this.out = new Uint32Array(this.image.data.buffer);
    this.lines = shape("svg", { class: "lines", "aria-hidden": "true" });
    const text = (name, more) => element("div", { class: name, ...more });
    this.texts = {
      index: text("index", { role: "status", "aria-live": "polite" }),
      window: text("numbers"), value: text("value"), length: text("length"),
      bar: text("bar"), scale: text("scale"), legend: text("legend"), note: text("note"),
      left: text("letter left"), right: text("letter right"),
      top: text("letter top"), bottom: text("letter bottom"),
    };
    const { texts } = this;
    this.retry = element("button", { type: "button", class: "retry", hidden: "" }, words.retry);
    this.retry.addEventListener("click", () => this.app.retry(this.source));
    const middle = element("div", { class: "middle", role: "alert" }, texts.note);
    this.stage = element(
      "div", { class: "stage" }, this.canvas, this.lines,
      texts.left, texts.right, texts.top, texts.bottom, texts.length, texts.index,
      element("div", { class: "south west" }, texts.scale, texts.bar, texts.window),
      element("div", { class: "south east" }, texts.value),
      element("div", { class: "centre" }, middle, this.retry),
    );
    const name = this.kind === "axial" && !this.app.isThree() ? pane.label : words[this.kind];
    this.slider = element("input", {
      type: "range", min: "1", max: String(this.plane.count), step: "1",
      "aria-label": `${words.slice}: ${name}`,
    });
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value) - 1));
    this.slider.hidden = this.plane.count === 1;
    this.section = element(
      "section", { class: `pane ${pane.frame}`, "aria-label": name },
      element("div", { class: "name" }, name), this.stage, this.slider, texts.legend,
    );
    placeTexts(this);
  }

  /** Show slice k and tell the app. */
  go(k) {
    const to = clamp(k, 0, this.plane.count - 1);
    if (to !== this.k) {
      this.source.cross[this.plane.axes.index] = to;
      this.app.moved(this);
    }
  }

  /** Draw before the next frame, once however often asked. */
  queue() {
    if (this.frame === null) {
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    }
  }

  draw() {
    const { source, kind, k, out } = this;
    const found = source.cut(kind, k);
    const from = performance.now();
    if (found === null) {
      out.fill(BLACK);
    } else {
      source.settleWindow(found.plane.values);
      paint(found.plane, source.pane.dtype, source.look, source.table(), out);
      const { cols } = this.plane;
      found.missing.forEach((row) => out.fill(BLACK, row * cols, (row + 1) * cols));
      this.drawHeat();
    }
    this.context.putImageData(this.image, 0, 0);
    this.values = found === null ? null : found.plane.values;
    const ready = found !== null && found.missing.length === 0;
    this.mark(ready, performance.now() - from);
    describe(this, ready);
    drawShapes(this);
    this.app.drawn(this);
  }

  drawHeat() {
    const heat = this.kind === "axial" && this.app.heatOn ? this.source.heatOf(this.k) : null;
    if (heat !== null) {
      mixHeat(this.out, heat, this.app.opacity);
    }
  }

  mark(ready, ms) {
    const { centre, width } = this.source.look;
    Object.assign(this.canvas.dataset, {
      k: String(this.k), ready: String(ready), ms: ms.toFixed(2),
      wc: centre === null ? "" : String(centre), ww: width === null ? "" : String(width),
    });
  }

  /** Largest zoom that shows the whole plane, in CSS pixels per column. */
  get fitZoom() {
    const { cols, rows } = this.plane;
    return Math.min(this.width / cols, this.height / (rows * this.aspect)) || 1;
  }

  resize(width, height) {
    const { place } = this;
    if (!place.fit) {
      place.x += (width - this.width) / 2;
      place.y += (height - this.height) / 2;
    }
    this.width = width;
    this.height = height;
    this.stage.style.height = `${height}px`;
    this.settle();
  }

  fit() {
    this.place.fit = true;
    this.settle();
  }

  /** Zoom to a scale, keeping the stage point (px, py) where it is; the middle if not given. */
  zoomTo(zoom, px = this.width / 2, py = this.height / 2) {
    const { place } = this;
    const low = Math.min(this.fitZoom, 1) / 2;
    const next = clamp(zoom, low, Math.max(MOST_ZOOM, this.fitZoom * MOST_ZOOM));
    place.x = px - ((px - place.x) * next) / place.zoom;
    place.y = py - ((py - place.y) * next) / place.zoom;
    place.zoom = next;
    place.fit = false;
    this.settle();
  }

  pan(dx, dy) {
    this.place.x += dx;
    this.place.y += dy;
    this.place.fit = false;
    this.settle();
  }

  /** Put the canvas where the place says, some of it always in sight. */
  settle() {
    const { place, width, height } = this;
    if (place.fit) {
      place.zoom = this.fitZoom;
    }
    const wide = this.plane.cols * place.zoom;
    const high = this.plane.rows * place.zoom * this.aspect;
    if (place.fit) {
      place.x = (width - wide) / 2;
      place.y = (height - high) / 2;
    }
    const kept = Math.min(KEPT_IN_SIGHT, wide, high);
    place.x = Math.round(clamp(place.x, kept - wide, width - kept));
    place.y = Math.round(clamp(place.y, kept - high, height - kept));
    const { style, dataset } = this.canvas;
    style.width = `${wide}px`;
    style.height = `${high}px`;
    style.transform = `translate(${place.x}px, ${place.y}px)`;
    style.imageRendering = place.zoom >= 1 ? "pixelated" : "auto";
    dataset.zoom = String(place.zoom);
    placeTexts(this);
    drawShapes(this);
  }

  /** Image point (column, row; pixel edges are whole numbers) under a stage point. */
  toImage(px, py) {
    const { x, y, zoom } = this.place;
    return { x: (px - x) / zoom, y: (py - y) / (zoom * this.aspect) };
  }

  toStage(x, y) {
    const { place } = this;
    return { x: place.x + x * place.zoom, y: place.y + y * place.zoom * this.aspect };
  }

  /** Say the value under an image point, or nothing outside. */
  hover(point) {
    setText(this.texts.value, this.valueAt(point));
  }

  valueAt(point) {
    const [x, y] = point === null ? [-1, -1] : [Math.floor(point.x), Math.floor(point.y)];
    const { cols, rows } = this.plane;
    if (this.values === null || x < 0 || y < 0 || x >= cols || y >= rows) {
      return "";
    }
    return sayValue(this, x, y);
  }
}
