/** Geometry: rows, columns, letters and millimetres of the three planes of a volume. */

/** Shape, spacing (mm or null), letters and cross-hair axes of one plane of a pane. */
export function planeOf(pane, kind) {
  const [dz, dy, dx] = pane.spacing;
  const upright = pane.letters === null ? null : { top: "S", bottom: "I" };
  if (kind === "coronal") {
    return {
      rows: pane.slices, cols: pane.cols, count: pane.rows, dy: dz, dx,
      letters: upright && { ...upright, left: "R", right: "L" },
      axes: { index: "y", across: "x", down: "z" }, flipped: true,
    };
  }
  if (kind === "sagittal") {
    return {
      rows: pane.slices, cols: pane.rows, count: pane.cols, dy: dz, dx: dy,
      letters: upright && { ...upright, left: "A", right: "P" },
      axes: { index: "x", across: "y", down: "z" }, flipped: true,
    };
  }
  return {
    rows: pane.rows, cols: pane.cols, count: pane.slices, dy, dx, letters: pane.letters,
    axes: { index: "z", across: "x", down: "y" }, flipped: false,
  };
}

/** Height of a pixel over its width; 1 where a spacing is unknown. */
export function aspectOf(plane) {
  return plane.dy > 0 && plane.dx > 0 ? plane.dy / plane.dx : 1;
}

/** Length in mm, or in pixels where a spacing is unknown. */
export function lengthOf({ x0, y0, x1, y1 }, plane) {
  const known = plane.dy > 0 && plane.dx > 0;
  const [sy, sx] = known ? [plane.dy, plane.dx] : [1, 1];
  return { known, length: Math.hypot((x1 - x0) * sx, (y1 - y0) * sy) };
}

/** Longest 1, 2 or 5 times a power of ten, in mm, that is at most the given length. */
export function roundLength(mm) {
  const power = 10 ** Math.floor(Math.log10(mm));
  const step = [5, 2, 1].find((s) => s * power <= mm * (1 + 1e-9));
  return (step === undefined ? 1 : step) * power;
}

/** Integer pixel rectangle that holds two points, inside rows x cols; null if empty. */
export function boxOf({ x0, y0, x1, y1 }, rows, cols) {
  const inside = (v, most) => Math.min(Math.max(v, 0), most);
  const box = {
    x0: inside(Math.floor(Math.min(x0, x1)), cols),
    y0: inside(Math.floor(Math.min(y0, y1)), rows),
    x1: inside(Math.ceil(Math.max(x0, x1)), cols),
    y1: inside(Math.ceil(Math.max(y0, y1)), rows),
  };
  return box.x1 > box.x0 && box.y1 > box.y0 ? box : null;
}

/** Row or slice of a cross-hair position on the screen: upright planes show the last slice on top. */
export function downOf(cross, plane) {
  const value = cross[plane.axes.down];
  return plane.flipped ? plane.rows - 1 - value : value;
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
