/** Overlay: letters, scale, numbers and lines over a canvas, as text and vectors. */

import { element, figure, say, setText, shape } from "./dom.js";
import { downOf, lengthOf, roundLength } from "./geometry.js";

const LONGEST_BAR = 0.3;

/** Letters and scale bar, after a change of size or zoom. */
export function placeTexts(view) {
  const { plane, texts } = view;
  for (const side of ["left", "right", "top", "bottom"]) {
    setText(texts[side], plane.letters === null ? "" : plane.letters[side]);
  }
  const { words } = view.app;
  const known = plane.dx > 0 && plane.dy > 0;
  texts.bar.hidden = !known;
  if (!known) {
    setText(texts.scale, words.uncalibrated);
  } else if (view.width > 0) {
    const perPixel = plane.dx / view.place.zoom;
    const mm = roundLength(view.width * LONGEST_BAR * perPixel);
    texts.bar.style.width = `${mm / perPixel}px`;
    setText(texts.scale, mm >= 10 ? say(words.cm, { v: figure(mm / 10) }) : say(words.mm, { v: figure(mm) }));
  }
}

/** Index, window numbers, legend and messages, after a drawing. */
export function describe(view, ready) {
  const { texts, source, canvas, k, plane } = view;
  const { words } = view.app;
  const index = say(words.index, { k: k + 1, n: plane.count });
  const names = view.kind === "axial" ? source.pane.names : null;
  setText(texts.index, names === null ? index : `${index} · ${names[k]}`);
  canvas.setAttribute("aria-label", `${source.pane.alt}, ${view.section.ariaLabel}, ${index}`);
  view.slider.value = String(k + 1);
  view.slider.setAttribute("aria-valuetext", index);
  const { centre, width } = source.look;
  const shown = centre === null ? "" : say(words.numbers, { c: figure(centre), w: figure(width) });
  setText(texts.window, source.look.invert ? `${shown} · ${words.inverted}` : shown);
  setText(texts.legend, legendOf(view));
  setText(texts.note, ready ? "" : noteOf(view));
  view.retry.hidden = source.gone || source.failed.size === 0 || ready;
}

function legendOf(view) {
  const { app, source, kind } = view;
  const { heat } = source.pane;
  if (!app.heatOn || heat === null || kind !== "axial") {
    return "";
  }
  const elsewhere = say(app.words.heat_elsewhere, { k: heat.slice + 1 });
  return heat.slice === source.cross.z ? heat.legend : elsewhere;
}

function noteOf(view) {
  const { source, k, kind } = view;
  const { words } = view.app;
  if (source.gone) {
    return words.gone;
  }
  if (kind !== "axial") {
    const failed = source.failed.size > 0 ? ` ${say(words.failed_some, { n: source.failed.size })}` : "";
    return say(words.progress, { k: source.got.size, n: source.pane.slices }) + failed;
  }
  return say(source.failed.has(k) ? words.failed : words.loading, { k: k + 1 });
}

/** Cross-hair, ruler and box over the image; each line has a dark edge, so it shows on white. */
export function drawShapes(view) {
  const { lines, marks, trace, k } = view;
  lines.replaceChildren();
  if (view.app.isThree()) {
    crossHair(view);
  }
  const { ruler, box } = marks;
  [box !== null && box.k === k ? box : null, trace].forEach((mark) => drawBox(view, mark));
  const measured = trace !== null && trace.tool === "ruler" ? trace : ruler;
  drawRuler(view, measured !== null && measured.k === k ? measured : null);
  drawCursor(view);
}

function twice(view, tag, attributes, name) {
  view.lines.append(
    shape(tag, { ...attributes, class: "edge" }),
    shape(tag, { ...attributes, class: name }),
  );
}

function crossHair(view) {
  const { source, plane, width, height } = view;
  const at = view.toStage(source.cross[plane.axes.across] + 0.5, downOf(source.cross, plane) + 0.5);
  twice(view, "line", { x1: at.x, x2: at.x, y1: 0, y2: height }, "cross");
  twice(view, "line", { x1: 0, x2: width, y1: at.y, y2: at.y }, "cross");
}

function drawBox(view, mark) {
  if (mark === null || mark.tool === "ruler") {
    return;
  }
  const a = view.toStage(Math.min(mark.x0, mark.x1), Math.min(mark.y0, mark.y1));
  const b = view.toStage(Math.max(mark.x0, mark.x1), Math.max(mark.y0, mark.y1));
  twice(view, "rect", { x: a.x, y: a.y, width: b.x - a.x, height: b.y - a.y }, "mark");
}

function drawRuler(view, mark) {
  const { length: label } = view.texts;
  label.hidden = mark === null;
  if (mark === null) {
    setText(label, "");
    return;
  }
  const a = view.toStage(mark.x0, mark.y0);
  const b = view.toStage(mark.x1, mark.y1);
  twice(view, "line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y }, "mark");
  setText(label, lengthText(view, mark));
  const left = Math.min(Math.max(b.x + 8, 0), Math.max(view.width - label.offsetWidth, 0));
  const top = Math.min(Math.max(b.y + 8, 0), Math.max(view.height - label.offsetHeight, 0));
  label.style.transform = `translate(${left}px, ${top}px)`;
}

function lengthText(view, mark) {
  const { words } = view.app;
  const { known, length } = lengthOf(mark, view.plane);
  const v = length.toFixed(known ? 1 : 0);
  return known ? say(words.mm, { v }) : say(words.uncalibrated_px, { v });
}

function drawCursor(view) {
  if (view.cursor === null) {
    return;
  }
  const at = view.toStage(view.cursor.x, view.cursor.y);
  twice(view, "path", { d: `M${at.x - 9} ${at.y}h18M${at.x} ${at.y - 9}v18` }, "mark");
}

/** Sentence on the value of one pixel. */
export function sayValue({ app, source, plane, values }, x, y) {
  const { pane } = source;
  const at = y * plane.cols + x;
  if (pane.dtype === "rgb") {
    return say(app.words.value, { x, y, v: Array.from(values.subarray(at * 3, at * 3 + 3)).join(" ") });
  }
  const value = values[at];
  const nothing = value === pane.blank || Number.isNaN(value);
  const v = nothing ? app.words.no_value : `${figure(value)} ${pane.units}`.trim();
  return say(app.words.value, { x, y, v });
}

/** Panel that lists every key; Escape closes it. */
export function keyPanel(words) {
  const rows = words.keys.map(([key, what]) =>
    element("tr", {}, element("th", { scope: "row" }, key), element("td", {}, what)),
  );
  const close = element("button", { type: "button" }, words.close);
  const panel = element(
    "dialog", { "aria-label": words.help },
    element("p", { class: "title" }, words.help),
    element("table", {}, element("tbody", {}, ...rows)), close,
  );
  close.addEventListener("click", () => panel.close());
  return panel;
}
