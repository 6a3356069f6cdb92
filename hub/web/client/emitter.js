// Named events. A listener that throws is reported as any uncaught error is, and holds up neither the
// other listeners nor the client.

function report(error) {
  if (typeof reportError === 'function') reportError(error);
  else setTimeout(() => { throw error; });
}

export class Emitter {
  #listeners = new Map();

  /** Calls fn at each `name`; the function returned ends that. */
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
