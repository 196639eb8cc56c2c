/** Source: the planes of one pane, where its reader stands, and how its values are shown. */

import { colourTable, ramp, spread, stretch, typed, windowFrom } from "./pixels.js";

export class Source {
  constructor(pane, index) {
    this.pane = pane;
    this.index = index;
    this.got = new Map();
    this.failed = new Set();
    this.pending = new Set();
    this.gone = false;
    this.cross = { z: pane.start, y: pane.rows >> 1, x: pane.cols >> 1 };
    this.heat = null;
    this.reset();
  }

  /** The window, curve and polarity that came with the image. */
  reset() {
    const { pane } = this;
    const identity = pane.dtype === "rgb" ? { centre: 128, width: 256 } : null;
    const start = pane.window || identity;
    const given = pane.curve === "LUT" && pane.lut === null ? this.plainCurve() : pane.curve;
    const curve = identity && pane.window === null ? "LINEAR" : given;
    this.look = { curve, lut: pane.lut, invert: pane.invert, centre: null, width: null };
    if (start !== null) {
      Object.assign(this.look, { centre: start.centre, width: start.width });
    }
    this.key = null;
  }

  plainCurve() {
    return this.pane.dtype === "f4" ? "LINEAR_EXACT" : "LINEAR";
  }

  lacks(k) {
    return !this.got.has(k) && !this.failed.has(k) && !this.pending.has(k);
  }

  put(k, buffer) {
    this.got.set(k, typed(buffer, this.pane.dtype));
    this.failed.delete(k);
  }

  /** Take new addresses for the planes still missing. */
  readdress(url) {
    this.pane.url = url;
    this.gone = false;
    this.failed.clear();
  }

  /** A window of the reader's own: linear, within what the values can hold. */
  setWindow(centre, width) {
    const least = this.pane.dtype === "f4" ? 1e-9 : 1;
    this.look = { ...this.look, curve: this.plainCurve(), centre, width: Math.max(width, least) };
  }

  setLimits(low, high) {
    const { centre, width } = windowFrom(low, high, this.pane.dtype === "f4");
    this.setWindow(centre, width);
  }

  /** Lowest and highest value of the ramp. */
  limits() {
    const [from, span] = ramp(this.look);
    return [from, from + span];
  }

  /** Window over the middle 98 % of some values. */
  automatic(values) {
    const ends = spread(values, this.pane.blank);
    if (ends !== null) {
      this.setLimits(...ends);
    }
  }

  /** An automatic window where none came: taken from the first plane shown, its curve kept. */
  settleWindow(values) {
    if (this.look.centre !== null) {
      return;
    }
    const { curve } = this.look;
    const ends = spread(values, this.pane.blank) || [this.pane.low, this.pane.high];
    this.setLimits(...ends);
    if (curve === "LUT") {
      this.look.curve = curve;
    }
  }

  invert() {
    this.look = { ...this.look, invert: !this.look.invert };
  }

  /** Colours by bit pattern, rebuilt only when window, curve or polarity changed. */
  table() {
    const { curve, centre, width, invert } = this.look;
    const key = [curve, centre, width, invert].join(" ");
    if (key !== this.key) {
      this.key = key;
      this.colours =
        this.pane.dtype === "f4" ? null : colourTable(this.pane.dtype, this.look, this.pane.blank);
    }
    return this.colours;
  }

  setHeat(heat) {
    this.pane.heat = heat;
    this.heat = null;
  }

  /** Stretched heat of a slice, computed once; null where none belongs to it. */
  heatOf(k) {
    const { heat, rows, cols } = this.pane;
    if (heat === null || heat.slice !== k) {
      return null;
    }
    if (this.heat === null) {
      this.heat = stretch(heat, rows, cols);
    }
    return this.heat;
  }

  /** Plane to draw: a stored one, or one cut out of all of them with the rows still missing. */
  cut(kind, k) {
    if (kind === "axial") {
      const plane = this.got.get(k);
      return plane === undefined ? null : { plane, missing: [] };
    }
    return this.slab(kind, k);
  }

  slab(kind, k) {
    const { rows, cols, slices, dtype } = this.pane;
    const wide = kind === "coronal" ? cols : rows;
    const sample = this.got.values().next().value;
    if (sample === undefined) {
      return null;
    }
    const values = new sample.values.constructor(slices * wide);
    const missing = [];
    for (let z = 0; z < slices; z += 1) {
      const row = slices - 1 - z;
      const plane = this.got.get(z);
      if (plane === undefined) {
        missing.push(row);
      } else if (kind === "coronal") {
        values.set(plane.values.subarray(k * cols, (k + 1) * cols), row * wide);
      } else {
        for (let y = 0; y < rows; y += 1) {
          values[row * wide + y] = plane.values[y * cols + k];
        }
      }
    }
    return { plane: typed(values.buffer, dtype), missing };
  }
}
