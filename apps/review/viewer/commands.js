/** Commands: what buttons and keys do, when they are offered, and when they are on. */

const ZOOM_STEP = 1.25;

const choice = (name, key) => ({
  key,
  run: (app) => app.setTool(name),
  on: (app) => app.tool === name,
});

const zoom = (key, factor) => ({
  key,
  run: (app) => {
    app.active.zoomTo(app.active.place.zoom * factor);
    app.zoomed(app.active);
  },
});

const act = (key) => ({ key, act: true });

export const COMMANDS = {
  window: choice("window", "w"),
  scroll: { ...choice("scroll", "t"), when: (app) => app.active.plane.count > 1 },
  pan: choice("pan", "p"),
  ruler: choice("ruler", "m"),
  box: { ...choice("box", "o"), barred: (app) => app.active.kind !== "axial" },
  boxwindow: { ...choice("boxwindow", "k"), when: (app) => app.active.source.pane.dtype !== "rgb" },
  clear: { key: "Escape", run: (app) => app.escape(), when: (app) => app.hasMarks() },
  auto: {
    key: "g",
    run: (app) => app.automatic(),
    when: (app) => app.active.source.pane.dtype !== "rgb",
  },
  invert: {
    key: "i",
    run: (app) => {
      app.active.source.invert();
      app.redraw();
    },
    on: (app) => app.active.source.look.invert,
  },
  zoomin: zoom("+", ZOOM_STEP),
  zoomout: zoom("-", 1 / ZOOM_STEP),
  actual: {
    key: "0",
    run: (app) => {
      app.active.zoomTo(1);
      app.zoomed(app.active);
    },
  },
  reset: { key: "r", run: (app) => app.reset() },
  heat: {
    key: "h",
    run: (app) => app.toggleHeat(),
    on: (app) => app.heatOn,
    when: (app) => app.hasHeat(),
  },
  planes: {
    key: "v",
    run: (app) => app.setMode(app.isThree() ? "one" : "three"),
    on: (app) => app.isThree(),
    when: (app) => app.sources[0].pane.planes && app.sources[0].pane.slices > 1,
  },
  two: {
    key: "s",
    run: (app) => app.setMode(app.mode === "two" ? "one" : "two"),
    on: (app) => app.mode === "two",
    when: (app) => app.sources.length > 1,
  },
  swap: { key: "x", run: (app) => app.swap(), when: (app) => app.mode === "two" },
  link: {
    key: "y",
    run: (app) => app.toggleLink(),
    on: (app) => app.link.on,
    when: (app) => app.mode === "two",
  },
  blink: {
    key: "z",
    run: (app) => app.toggleBlink(),
    on: (app) => app.blinking !== null,
    when: (app) => app.mode === "two",
    barred: () => window.matchMedia("(prefers-reduced-motion: reduce)").matches,
  },
  agree: act("a"),
  disagree: act("d"),
  unsure: act("u"),
  flag: act("f"),
  next: act("n"),
  previous: act("b"),
  reveal: act("Enter"),
  list: act("l"),
  help: { key: "?", run: (app) => app.openHelp() },
};

/** True where a command is offered now. */
export function offered(app, name) {
  const { when, barred } = COMMANDS[name];
  return (when === undefined || when(app)) && (barred === undefined || !barred(app));
}

/** Do a command by name; one not offered does nothing. */
export function command(app, name) {
  if (COMMANDS[name].act) {
    app.act(name, null);
  } else if (offered(app, name)) {
    COMMANDS[name].run(app);
  }
  app.guard(() => app.toolbar.sync());
}
