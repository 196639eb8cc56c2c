/** Marks: what a drawn line or rectangle means, and where a click puts the cross-hair. */

import { boxOf } from "./geometry.js";

/** Window over the values inside a box, and back to the usual drag. */
function windowOf(app, view, box) {
  if (view.values === null) {
    return;
  }
  const { cols } = view.plane;
  const wide = box.x1 - box.x0;
  const inside = new view.values.constructor(wide * (box.y1 - box.y0));
  for (let y = box.y0; y < box.y1; y += 1) {
    inside.set(view.values.subarray(y * cols + box.x0, y * cols + box.x1), (y - box.y0) * wide);
  }
  view.source.automatic(inside);
  app.tool = app.habit;
  app.windowed(view);
}

function keepBox(app, view, k, box) {
  app.views.forEach((other) => Object.assign(other.marks, { box: null }));
  view.marks.box = { k, ...box };
  app.tell.trigger("box", { pane: view.source.index, slice: k, ...box });
}

/** Keep a ruler or a box, or take the window from a box. */
export function keepTrace(app, view, trace) {
  if (trace.tool === "ruler") {
    const moved = trace.x0 !== trace.x1 || trace.y0 !== trace.y1;
    view.marks.ruler = moved ? trace : null;
    return;
  }
  const box = boxOf(trace, view.plane.rows, view.plane.cols);
  if (box !== null && trace.tool === "boxwindow") {
    windowOf(app, view, box);
  } else if (box !== null && view.kind === "axial") {
    keepBox(app, view, trace.k, box);
  }
}

/** Move the cross-hair to an image point; false outside the image. */
export function moveCross({ plane, source }, at) {
  const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
  if (x < 0 || y < 0 || x >= plane.cols || y >= plane.rows) {
    return false;
  }
  source.cross[plane.axes.across] = x;
  source.cross[plane.axes.down] = plane.flipped ? plane.rows - 1 - y : y;
  return true;
}
