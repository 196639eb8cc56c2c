/** Link: a second image follows the first in position, zoom and window. */

import { clamp } from "./geometry.js";

/** Position of a view in its stack, in mm or as a share, so that two stacks compare. */
function positionOf(view, inMm) {
  const { slices, spacing } = view.source.pane;
  return inMm ? view.k * spacing[0] : view.k / Math.max(slices - 1, 1);
}

function sliceAt(view, position, inMm) {
  const { slices, spacing } = view.source.pane;
  const k = inMm ? position / spacing[0] : position * Math.max(slices - 1, 1);
  return clamp(Math.round(k), 0, slices - 1);
}

export class Link {
  constructor() {
    this.on = true;
    this.offset = 0;
  }

  /** Both spacings known: positions are compared in mm. */
  inMm(a, b) {
    return a.source.pane.spacing[0] > 0 && b.source.pane.spacing[0] > 0;
  }

  /** Link again from where the two stand now. */
  rejoin([a, b]) {
    const [first, second] = a.source.index < b.source.index ? [a, b] : [b, a];
    const inMm = this.inMm(a, b);
    this.offset = positionOf(second, inMm) - positionOf(first, inMm);
  }

  scroll(from, to) {
    const inMm = this.inMm(from, to);
    const sign = from.source.index < to.source.index ? 1 : -1;
    to.source.cross.z = sliceAt(to, positionOf(from, inMm) + sign * this.offset, inMm);
  }

  zoom(from, to) {
    if (from.place.fit) {
      to.fit();
      return;
    }
    const [dx, other] = [from.plane.dx, to.plane.dx];
    const known = dx > 0 && other > 0;
    to.zoomTo(from.place.zoom * (known ? other / dx : to.fitZoom / from.fitZoom));
    const middle = from.toImage(from.width / 2, from.height / 2);
    const at = to.toStage(
      (middle.x / from.plane.cols) * to.plane.cols,
      (middle.y / from.plane.rows) * to.plane.rows,
    );
    to.pan(to.width / 2 - at.x, to.height / 2 - at.y);
  }

  window(from, to) {
    if (from.source.pane.units === to.source.pane.units) {
      to.source.setWindow(from.source.look.centre, from.source.look.width);
    }
  }
}
