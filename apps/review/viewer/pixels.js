/** Pixels: from stored values to the colours on the canvas. */

export const BLACK = 0xff000000;
const HEAT_COLOUR = [230, 159, 0];
const ONE = 4096;
const SAMPLE = 262144;

/** First value above black and the length of the ramp to white, in stored units. */
export function ramp({ curve, centre, width }) {
  if (curve === "LINEAR") {
    return [centre - 0.5 - (width - 1) / 2, width - 1];
  }
  return [centre - width / 2, width];
}

/** Function from a stored value to its grey level 0..255 (DICOM PS3.3 C.11.2.1.2 and .3). */
export function levelOf(look) {
  if (look.curve === "LUT") {
    return tableLevel(look.lut);
  }
  if (look.curve === "SIGMOID") {
    const { centre, width } = look;
    return (x) => Math.floor(255 / (1 + Math.exp((-4 * (x - centre)) / width)) + 0.5);
  }
  const [from, span] = ramp(look);
  return (x) => {
    if (x <= from) {
      return 0;
    }
    return x > from + span ? 255 : Math.floor(((x - from) / span) * 255 + 0.5);
  };
}

function tableLevel({ first, table }) {
  const last = table.length - 1;
  return (x) => {
    const at = Math.min(Math.max(Math.round(x - first), 0), last);
    return Math.floor(table[at] * 255 + 0.5);
  };
}

function opaque(level) {
  return (BLACK | (level << 16) | (level << 8) | level) >>> 0;
}

/** Colour of every stored bit pattern; blank is black whatever the window. */
export function colourTable(dtype, look, blank) {
  const level = levelOf(look);
  const size = dtype === "u1" || dtype === "rgb" ? 256 : 65536;
  const table = new Uint32Array(size);
  for (let bits = 0; bits < size; bits += 1) {
    const value = dtype === "i2" && bits > 32767 ? bits - 65536 : bits;
    const grey = level(value);
    table[bits] = opaque(look.invert ? 255 - grey : grey);
  }
  if (blank !== null && dtype !== "rgb") {
    table[blank & (size - 1)] = BLACK;
  }
  return table;
}

/** Raw bytes as the values themselves and as the bit patterns that index a colour table. */
export function typed(buffer, dtype) {
  if (dtype === "f4") {
    return { values: new Float32Array(buffer), bits: null };
  }
  if (dtype === "u1" || dtype === "rgb") {
    const values = new Uint8Array(buffer);
    return { values, bits: values };
  }
  const bits = new Uint16Array(buffer);
  return { values: dtype === "i2" ? new Int16Array(buffer) : bits, bits };
}

export function bytesPerPixel(dtype) {
  return { i2: 2, u2: 2, u1: 1, f4: 4, rgb: 3 }[dtype];
}

function paintFloat(values, look, out) {
  const greys = Uint32Array.from({ length: 256 }, (_, g) => opaque(look.invert ? 255 - g : g));
  const level = levelOf(look);
  for (let i = 0; i < out.length; i += 1) {
    const x = values[i];
    out[i] = x === x ? greys[level(x)] : BLACK;
  }
}

function paintRgb(values, table, out) {
  for (let i = 0, j = 0; i < out.length; i += 1, j += 3) {
    const red = table[values[j]] & 255;
    const green = table[values[j + 1]] & 255;
    const blue = table[values[j + 2]] & 255;
    out[i] = BLACK | (blue << 16) | (green << 8) | red;
  }
}

/** Fill out (one uint32 RGBA per pixel) with a plane under a look and its colour table. */
export function paint(plane, dtype, look, table, out) {
  if (dtype === "f4") {
    paintFloat(plane.values, look, out);
  } else if (dtype === "rgb") {
    paintRgb(plane.values, table, out);
  } else {
    const { bits } = plane;
    for (let i = 0; i < out.length; i += 1) {
      out[i] = table[bits[i]];
    }
  }
}

function corners(k, from, to) {
  const at = Math.min(Math.max(((k + 0.5) * from) / to - 0.5, 0), from - 1);
  const low = Math.floor(at);
  return [low, Math.min(low + 1, from - 1), at - low];
}

/** Heat values stretched bilinearly over rows x cols, in 1/4096. */
export function stretch(heat, rows, cols) {
  const out = new Uint16Array(rows * cols);
  const across = Array.from({ length: cols }, (_, c) => corners(c, heat.cols, cols));
  for (let r = 0; r < rows; r += 1) {
    const [top, bottom, down] = corners(r, heat.rows, rows);
    for (let c = 0; c < cols; c += 1) {
      const [left, right, share] = across[c];
      const v = heat.values;
      const a = v[top * heat.cols + left] * (1 - share) + v[top * heat.cols + right] * share;
      const b = v[bottom * heat.cols + left] * (1 - share) + v[bottom * heat.cols + right] * share;
      out[r * cols + c] = Math.round((a * (1 - down) + b * down) * ONE);
    }
  }
  return out;
}

/** Mix the heat colour into out by value times opacity. */
export function mixHeat(out, heat, opacity) {
  const strength = Math.round(opacity * ONE);
  const [red, green, blue] = HEAT_COLOUR;
  for (let i = 0; i < out.length; i += 1) {
    const a = (heat[i] * strength + ONE / 2) >> 12;
    if (a > 0) {
      const b = ONE - a;
      const p = out[i];
      const r = ((p & 255) * b + red * a + ONE / 2) >> 12;
      const g = (((p >> 8) & 255) * b + green * a + ONE / 2) >> 12;
      const bl = (((p >> 16) & 255) * b + blue * a + ONE / 2) >> 12;
      out[i] = BLACK | (bl << 16) | (g << 8) | r;
    }
  }
}

function ordered(values, blank) {
  const step = Math.max(1, Math.ceil(values.length / SAMPLE));
  const kept = [];
  for (let i = 0; i < values.length; i += step) {
    if (Number.isFinite(values[i]) && values[i] !== blank) {
      kept.push(values[i]);
    }
  }
  return Float64Array.from(kept).sort();
}

/** Smallest values that at least 1 % and 99 % of the shown pixels do not exceed; null if none. */
export function spread(values, blank) {
  const sorted = ordered(values, blank);
  if (sorted.length === 0) {
    return null;
  }
  return [0.01, 0.99].map((share) => sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)]);
}

/** Window whose ramp runs from low to high. */
export function windowFrom(low, high, exact) {
  if (exact) {
    return { centre: (low + high) / 2, width: Math.max(high - low, 1e-9) };
  }
  return { centre: (low + high + 1) / 2, width: Math.max(high - low + 1, 1) };
}
