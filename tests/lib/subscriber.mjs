// A page that follows many vehicles on one connection of vinhub.v1: it records the messages of each session, checks that
// each comes once and in order, and resumes on another node.
import { decode, encode } from '@msgpack/msgpack'
import { Browser } from './browser.mjs'
import { until } from './until.mjs'

const FORMS = {
  'vinhub.v1': { decode: ({ text }) => JSON.parse(text), encode: JSON.stringify },
  'vinhub.v1.msgpack': { decode: ({ data }) => decode(data), encode },
}

export class Subscriber {
  /** path: of the connection itself, "/u?subscribe" or with a session of its own. */
  static async open(t, hub, { path = '/u?subscribe', protocol = 'vinhub.v1' } = {}) {
    const subscriber = new Subscriber(t, protocol, path)
    await subscriber.connect(hub)
    return subscriber
  }

  constructor(t, protocol, path) {
    Object.assign(this, { t, protocol, path, form: FORMS[protocol], requests: 0 })
    this.sessions = new Map() // id -> {url, epoch, offset, texts, gaps, welcomes, at}
    this.faults = [] // what came twice, or was missing without a GAP
    this.told = [] // all but MESSAGE
    this.client = null
  }

  async connect(hub) {
    const resume = this.client === null ? '' : `&resume=0.0.${this.client}`
    this.browser = await Browser.open(this.t, hub.url(this.path + resume), { protocols: [this.protocol] })
    const { socket, received } = this.browser
    socket.on('message', () => this.take(this.form.decode(received.pop())))
    while (received.length > 0) this.take(this.form.decode(received.shift()))
    this.client = (await until(() => this.find('WELCOME', (event) => event.url === undefined), 5000, 'WELCOME')).payload.client
  }

  find(type, fits = () => true) { return this.told.find((event) => event.type === type && fits(event)) }
  all(type) { return this.told.filter((event) => event.type === type) }
  forget() { this.told.length = 0 }

  say(message) { this.browser.send(this.form.encode(message)) }

  subscribe(urls) {
    const id = ++this.requests
    this.say({ type: 'SUBSCRIBE', id, urls })
    return id
  }

  /** Comes back on that node; each session goes on where it left off. */
  async resume(hub) {
    this.forget()
    await this.connect(hub)
    return this.subscribe([...this.sessions.values()].map(({ url, epoch, offset }) => `${url}&resume=${epoch}.${offset}`))
  }

  take(event) {
    if (event.type === 'MESSAGE') this.takeMessage(event)
    else this.told.push(event)
    if (event.type === 'WELCOME' && event.url) this.takeWelcome(event)
    if (event.type === 'GAP') this.takeGap(event)
  }

  takeWelcome({ url, payload: { session, epoch, offset, resumed } }) {
    const before = this.sessions.get(session)
    if (resumed && before) { before.welcomes++; return }
    this.sessions.set(session, { url: url.replace(/&resume=.*$/, ''), epoch, offset, texts: [], gaps: [], welcomes: 1, at: 0 })
  }

  takeMessage({ session, epoch, offset, payload }) {
    const at = this.sessions.get(session)
    const next = at.epoch === epoch ? offset === at.offset + 1 : at.epoch < epoch && offset === 1
    if (!next && at.epoch !== 0) this.faults.push(`${session}: ${epoch}.${offset} after ${at.epoch}.${at.offset}`)
    Object.assign(at, { epoch, offset, at: performance.now() })
    at.texts.push(payload)
  }

  takeGap({ session, payload: { epoch, from, to } }) {
    const at = this.sessions.get(session)
    at.gaps.push({ epoch, from, to })
    if (to > 0) Object.assign(at, { epoch, offset: to })
  }
}
