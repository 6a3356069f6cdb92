// Named events. An error in a listener is reported like any uncaught error; the other listeners and the client are not
// affected.

function report(error) {
  if (typeof reportError === 'function') reportError(error);
  else setTimeout(() => { throw error; });
}

export class Emitter {
  #listeners = new Map();

  /** Calls fn at each event `name`; returns a function that removes it. */
  on(name, fn) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(fn);
    return () => this.off(name, fn);
  }

  off(name, fn) { this.#listeners.get(name)?.delete(fn); }

  emit(name, ...values) {
    for (const fn of [...(this.#listeners.get(name) ?? [])]) {
      try { fn(...values); } catch (error) { report(error); }
    }
  }
}
