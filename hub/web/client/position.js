// The position of a reader in the stream of one session, and the gaps in it.

import { isAfter } from './wire.js';

/** EPOCH.OFFSET as {epoch, offset}; null for anything else. */
export function positionOf(text) {
  const match = /^(\d{1,16})\.(\d{1,16})$/.exec(text ?? '');
  return match ? { epoch: Number(match[1]), offset: Number(match[2]) } : null;
}

export class Position {
  #at;

  /** text: EPOCH.OFFSET of the last message that the reader has got, or null. */
  constructor(text) { this.#at = positionOf(text); }

  get at() { return this.#at; }
  toString() { return this.#at ? `${this.#at.epoch}.${this.#at.offset}` : '0.0'; }

  /**
   * Takes a WELCOME; known: there was a connection to this session before. Returns null, or a gap: if the hub could not
   * resume after the position, or there was no position yet, the messages in between are not known and count as lost.
   */
  welcome({ epoch, offset, resumed }, known) {
    const before = this.#at ?? (known ? { epoch: 0, offset: 0 } : null);
    if (!resumed && epoch > 0) this.#at = { epoch, offset };
    if (!before || resumed || (before.epoch > 0 && before.epoch === epoch && before.offset === offset)) return null;
    return { epoch: before.epoch, from: before.offset + 1, to: 0 };
  }

  /** Moves to a message; false: the reader has had it before. */
  take({ epoch, offset }) {
    if (this.#at && !isAfter({ epoch, offset }, this.#at)) return false;
    this.#at = { epoch, offset };
    return true;
  }

  /** Moves over a gap. */
  skip({ epoch, to }) {
    if (to > 0) this.take({ epoch, offset: to });
  }
}
