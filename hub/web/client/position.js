// Where a reader is in the stream of one session, and what it has missed.

import { isAfter } from './wire.js';

/** EPOCH.OFFSET as {epoch, offset}; null for anything else. */
export function positionOf(text) {
  const match = /^(\d{1,16})\.(\d{1,16})$/.exec(text ?? '');
  return match ? { epoch: Number(match[1]), offset: Number(match[2]) } : null;
}

export class Position {
  #at;

  /** text: EPOCH.OFFSET of the last message that was had, or null. */
  constructor(text) { this.#at = positionOf(text); }

  get at() { return this.#at; }
  toString() { return this.#at ? `${this.#at.epoch}.${this.#at.offset}` : '0.0'; }

  /**
   * A WELCOME came; known: there was a connection to this session before. Returns the gap it tells of, or null. The
   * position was of no use to the hub, or there never was one: what came meanwhile is not known, so it counts as lost.
   */
  welcome({ epoch, offset, resumed }, known) {
    const before = this.#at ?? (known ? { epoch: 0, offset: 0 } : null);
    if (!resumed && epoch > 0) this.#at = { epoch, offset };
    if (!before || resumed || (before.epoch > 0 && before.epoch === epoch && before.offset === offset)) return null;
    return { epoch: before.epoch, from: before.offset + 1, to: 0 };
  }

  /** Moves to a message; false: it was had before. */
  take({ epoch, offset }) {
    if (this.#at && !isAfter({ epoch, offset }, this.#at)) return false;
    this.#at = { epoch, offset };
    return true;
  }

  /** Moves over what can't be had any more. */
  skip({ epoch, to }) {
    if (to > 0) this.take({ epoch, offset: to });
  }
}
