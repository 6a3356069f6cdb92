// Messages on their way to the hub, in the order of their ids. Each stays until it is acknowledged, refused or
// given up, or until its ttl is over; until then it is sent again on every new connection.

/**
 * Why a message was not acknowledged. code: 'timeout', 'closed', 'full', 'too_large', 'expired', or the hub's ERROR code.
 * sent: it was written to a connection, so it may have gone upstream.
 */
export class SendError extends Error {
  constructor(code, message, sent) {
    super(message);
    this.name = 'SendError';
    this.code = code;
    this.sent = sent;
  }
}

const sizeOf = (frame) => (typeof frame === 'string' ? new TextEncoder().encode(frame).length : frame.byteLength);

export class Outbox {
  #max;
  #lastId = 0;
  #entries = new Map();
  #written = new Set(); // ids that were written to the present connection

  constructor(max) { this.#max = max; }

  get size() { return this.#entries.size; }

  /**
   * frameOf(id, left) returns the frame to write; left: the ms that are left of the ttl, or undefined. Returns a promise of the
   * acknowledgement. ttl: ms after which the message is not written any more. channel: the message waits until this channel is
   * ready; null: the connection's own session.
   */
  add(frameOf, timeout, { ttl, channel = null } = {}) {
    if (this.#entries.size >= this.#max) {
      return Promise.reject(new SendError('full', `${this.#max} messages are waiting (maxPending)`, false));
    }
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const now = Date.now();
      const entry = { id, frameOf, frame: null, channel, resolve, reject, sent: false, endsAt: now + timeout, ttlAt: now + (ttl ?? Infinity) };
      entry.timer = setTimeout(() => this.#expire(id), timeout);
      if (ttl < timeout) entry.ttlTimer = setTimeout(() => { if (!this.#written.has(id)) this.#outlive(id); }, ttl);
      this.#entries.set(id, entry);
    });
  }

  /** An id for another message than SEND: all messages of a connection count their ids together. */
  nextId() { return ++this.#lastId; }

  /** There is a new connection, to which no message was written yet. */
  renew() { this.#written.clear(); }

  /** The hub has closed this channel: messages that are not acknowledged are written again when it is open. */
  renewChannel(channel) {
    for (const { id } of this.#of(channel)) this.#written.delete(id);
  }

  #of(channel) { return [...this.#entries.values()].filter((entry) => entry.channel === channel); }

  #expire(id) { this.refuse(id, 'timeout', 'not acknowledged in time'); }

  #outlive(id) { this.refuse(id, 'expired', 'not sent upstream within its ttl'); }

  /**
   * Writes the messages that were not written to this connection, oldest first. After the machine has slept, timers
   * fire late: a message that is too old by the wall clock is not sent to a vehicle any more.
   */
  flush(write) {
    for (const entry of [...this.#entries.values()]) {
      if (this.#written.has(entry.id)) continue;
      const now = Date.now();
      if (now > entry.endsAt) this.#expire(entry.id);
      else if (now >= entry.ttlAt) this.#outlive(entry.id);
      else if (!entry.channel || entry.channel.ready) this.#write(entry, write, now);
    }
  }

  #write(entry, write, now) {
    this.#written.add(entry.id);
    entry.sent = true;
    entry.frame = entry.frameOf(entry.id, entry.ttlAt === Infinity ? undefined : entry.ttlAt - now);
    write(entry.frame, entry.id);
  }

  #take(id) {
    const entry = this.#entries.get(id);
    if (!entry) return null;
    this.#entries.delete(id);
    this.#written.delete(id);
    clearTimeout(entry.timer);
    clearTimeout(entry.ttlTimer);
    return entry;
  }

  acknowledge(id) { this.#take(id)?.resolve(); }

  refuse(id, code, message) {
    const entry = this.#take(id);
    entry?.reject(new SendError(code, message, entry.sent));
  }

  /**
   * The connection ended because a message was too large. The largest message that was written and not acknowledged
   * is refused, since it must be the one; then the others can pass.
   */
  refuseLargest(message) {
    let largest = null;
    for (const id of this.#written) {
      const entry = this.#entries.get(id);
      if (largest === null || sizeOf(entry.frame) > sizeOf(largest.frame)) largest = entry;
    }
    if (largest !== null) this.refuse(largest.id, 'too_large', message);
  }

  refuseChannel(channel, code, message) {
    for (const { id } of this.#of(channel)) this.refuse(id, code, message);
  }

  refuseAll(code, message) {
    for (const id of [...this.#entries.keys()]) this.refuse(id, code, message);
  }
}
