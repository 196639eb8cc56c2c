/** Loader: fetches planes, nearest first, four at a time, and keeps the next cases at hand. */

import { bytesPerPixel } from "./pixels.js";

const AT_ONCE = 4;
const BUDGET = 256 * 2 ** 20;
const GONE = 410;

/** True for an address of this server below /planes/. */
export function isOwnAddress(url) {
  const full = new URL(url, window.location.href);
  return (
    url.startsWith("/planes/") &&
    full.origin === window.location.origin &&
    full.pathname.startsWith("/planes/")
  );
}

/** Index nearest to a focus that passes a test: the focus, one after, one before, two after. */
export function nearest(focus, count, passes) {
  for (let d = 0; d < count; d += 1) {
    const both = [focus + d, focus - d];
    const found = both.find((k) => k >= 0 && k < count && passes(k));
    if (found !== undefined) {
      return found;
    }
  }
  return null;
}

/** Planes fetched ahead: a bounded store, the oldest out. */
export class Ahead {
  constructor() {
    this.buffers = new Map();
    this.bytes = 0;
  }

  put(address, buffer) {
    this.buffers.set(address, buffer);
    this.bytes += buffer.byteLength;
    for (const oldest of this.buffers.keys()) {
      if (this.bytes <= BUDGET) {
        return;
      }
      this.take(oldest);
    }
  }

  take(address) {
    const buffer = this.buffers.get(address);
    if (buffer !== undefined) {
      this.buffers.delete(address);
      this.bytes -= buffer.byteLength;
    }
    return buffer;
  }
}

export class Loader {
  /** arrived(source, k): called whenever a plane came or failed. */
  constructor(arrived) {
    this.arrived = arrived;
    this.ahead = new Ahead();
    this.wanted = [];
    this.next = [];
    this.busy = 0;
    this.stopper = new AbortController();
  }

  /** Drop what runs and what is wanted; planes fetched ahead stay. */
  reset() {
    this.stopper.abort();
    this.stopper = new AbortController();
    this.busy = 0;
    this.wanted = [];
    this.next = [];
  }

  /** Fetch these sources, in this order of urgency. */
  want(sources) {
    for (const source of sources) {
      for (let k = 0; k < source.pane.slices; k += 1) {
        const buffer = this.ahead.take(`${source.pane.url}/${k}`);
        if (buffer !== undefined) {
          source.put(k, buffer);
        }
      }
    }
    this.wanted = sources;
    this.pump();
  }

  /** Fetch these cases when nothing else is wanted. */
  prefetch(entries) {
    this.next = entries.map((entry) => ({ ...entry, asked: new Set() }));
    this.room = BUDGET;
    this.pump();
  }

  pump() {
    while (this.busy < AT_ONCE) {
      const job = this.urgent() || this.idle();
      if (job === null) {
        return;
      }
      this.run(job);
    }
  }

  urgent() {
    for (const source of this.wanted) {
      const k = source.gone ? null : nearest(source.cross.z, source.pane.slices, (i) => source.lacks(i));
      if (k !== null) {
        source.pending.add(k);
        return { address: `${source.pane.url}/${k}`, source, k };
      }
    }
    return null;
  }

  idle() {
    if (this.wanted.some((source) => source.pending.size > 0)) {
      return null;
    }
    for (const entry of this.next) {
      const fresh = (k) => !entry.asked.has(k) && !this.ahead.buffers.has(`${entry.url}/${k}`);
      const k = this.room > 0 ? nearest(entry.start, entry.slices, fresh) : null;
      if (k !== null) {
        entry.asked.add(k);
        return { address: `${entry.url}/${k}`, source: null, k };
      }
    }
    return null;
  }

  async run(job) {
    this.busy += 1;
    const { signal } = this.stopper;
    const answer = await this.get(job.address, signal);
    if (signal.aborted) {
      return;
    }
    this.busy -= 1;
    if (job.source === null) {
      this.keep(job.address, answer);
    } else {
      this.settle(job, answer);
    }
    this.pump();
  }

  async get(address, signal) {
    try {
      if (!isOwnAddress(address)) {
        return { status: 0, buffer: null };
      }
      const answer = await fetch(address, {
        signal, cache: "no-store", credentials: "same-origin", redirect: "error",
      });
      return { status: answer.status, buffer: answer.ok ? await answer.arrayBuffer() : null };
    } catch {
      return { status: 0, buffer: null };
    }
  }

  keep(address, { buffer }) {
    if (buffer !== null) {
      this.room -= buffer.byteLength;
      this.ahead.put(address, buffer);
    }
  }

  settle({ source, k }, { status, buffer }) {
    source.pending.delete(k);
    const { rows, cols, dtype } = source.pane;
    if (buffer !== null && buffer.byteLength === rows * cols * bytesPerPixel(dtype)) {
      source.put(k, buffer);
    } else {
      source.failed.add(k);
      source.gone = source.gone || status === GONE;
    }
    this.arrived(source, k);
  }
}
