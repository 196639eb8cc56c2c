const ROW = 64, BEYOND = 8, SETTLE_MS = 120;
const lists = new WeakMap();
const COLUMNS = ["code", "where", "when", "word", "chance", "tag", "status"];

function make(tag, kind, words) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (words !== undefined) made.textContent = words;
  return made;
}

function build(root) {
  const head = make("div", "head"), box = make("div", "box"), space = make("div", "space");
  head.setAttribute("aria-hidden", "true");
  box.tabIndex = 0;
  box.setAttribute("role", "grid");
  box.append(space);
  const foot = make("div", "foot");
  foot.setAttribute("role", "status");
  root.replaceChildren(head, box, foot);
  return { root, head, box, space, foot, at: 0, drawn: new Map(), pictures: new Map(), id: null, data: null, timer: 0 };
}

function cell(kind, words) {
  const made = make("div", kind, words);
  made.setAttribute("role", "gridcell");
  return made;
}

function rowOf(list, k) {
  const { data } = list, row = make("div", "row");
  row.id = `row-${k}`;
  row.style.top = `${k * ROW}px`;
  row.setAttribute("role", "row");
  row.setAttribute("aria-rowindex", k + 1);
  const thumb = document.createElement("canvas");
  thumb.className = "thumb";
  thumb.width = thumb.height = data.side || 1;
  const holder = cell("picture", undefined);
  thumb.setAttribute("aria-hidden", "true");
  holder.append(thumb);
  row.append(holder);
  COLUMNS.forEach((kind, c) => {
    const made = cell(kind, data.rows[k][c]);
    if (kind === "word") made.classList.add(data.tone[k]);
    row.append(made);
  });
  row.addEventListener("click", () => { choose(list, k); open(list); });
  row.thumb = thumb;
  return row;
}

function paint(canvas, bytes, side) {
  const picture = new ImageData(side, side), out = picture.data;
  for (let k = 0; k < bytes.length; k += 1) {
    out[4 * k] = out[4 * k + 1] = out[4 * k + 2] = bytes[k];
    out[4 * k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

async function fetchThumb(list, k, row) {
  const { data, id } = list;
  if (!data.thumbs || !data.thumbs.startsWith("/thumbs/")) return;
  const number = data.numbers[k], known = list.pictures.get(number);
  if (known) { paint(row.thumb, known, data.side); return; }
  try {
    const answer = await fetch(`${data.thumbs}/${number}`);
    if (!answer.ok) return;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if (bytes.length !== data.side * data.side || id !== list.id) return;
    if (list.pictures.size > 600) list.pictures.delete(list.pictures.keys().next().value);
    list.pictures.set(number, bytes);
    paint(row.thumb, bytes, data.side);
  } catch { /* a picture that does not come leaves its place black */ }
}

function draw(list) {
  const { box, space, data, drawn } = list, count = data.rows.length;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - BEYOND);
  const last = Math.min(count, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + BEYOND);
  for (const [k, row] of drawn) if (k < first || k >= last) { row.remove(); drawn.delete(k); }
  for (let k = first; k < last; k += 1) {
    if (drawn.has(k)) continue;
    const row = rowOf(list, k);
    row.setAttribute("aria-selected", k === list.at);
    drawn.set(k, row);
    space.append(row);
  }
  clearTimeout(list.timer);
  list.timer = setTimeout(() => drawn.forEach((row, k) => {
    if (!row.asked) { row.asked = true; fetchThumb(list, k, row); }
  }), SETTLE_MS);
  box.dataset.first = first;
  box.dataset.drawn = drawn.size;
}

function choose(list, k) {
  const { box, drawn, data } = list, count = data.rows.length;
  if (!count) return;
  const old = drawn.get(list.at);
  if (old) old.setAttribute("aria-selected", false);
  list.at = Math.max(0, Math.min(count - 1, k));
  const top = list.at * ROW;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
  draw(list);
  drawn.get(list.at)?.setAttribute("aria-selected", true);
  box.setAttribute("aria-activedescendant", `row-${list.at}`);
  box.dataset.at = list.at;
  list.foot.textContent = data.words.place.replace("{k}", list.at + 1).replace("{n}", count);
}

function open(list) {
  if (list.data.rows.length) list.send("open", { id: list.id, row: list.at });
}

function onKey(list, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const page = Math.max(1, Math.floor(list.box.clientHeight / ROW) - 1);
  const step = { ArrowDown: 1, j: 1, J: 1, ArrowUp: -1, k: -1, K: -1, PageDown: page, PageUp: -page,
    Home: -Infinity, End: Infinity }[event.key];
  if (event.key === "Enter" || event.key === " ") open(list);
  else if (step !== undefined) choose(list, list.at + step);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function fill(list, data) {
  list.data = data;
  list.id = data.id;
  list.drawn.forEach((row) => row.remove());
  list.drawn.clear();
  list.pictures.clear();
  list.head.replaceChildren(make("div", ""), ...data.words.columns.map((c) => make("div", "", c)));
  list.box.setAttribute("aria-label", data.words.label);
  list.box.setAttribute("aria-rowcount", data.rows.length);
  list.space.style.height = `${data.rows.length * ROW}px`;
  choose(list, data.at || 0);
  list.box.dataset.ready = data.id;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".listing");
  let list = lists.get(root);
  if (!list) {
    list = build(root);
    lists.set(root, list);
    list.box.addEventListener("scroll", () => draw(list), { passive: true });
    list.box.addEventListener("keydown", (event) => onKey(list, event));
    new ResizeObserver(() => list.data && draw(list)).observe(list.box);
  }
  list.send = setTriggerValue;
  if (data && data.id !== list.id) {
    fill(list, data);
    if (data.focus) list.box.focus({ preventScroll: true });
  }
}
