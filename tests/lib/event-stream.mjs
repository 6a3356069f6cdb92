// A reader of server-sent events (the WHATWG HTML standard, section 9.2.6) over Node's http client: what a page's
// EventSource sees, and the comments and the head, which that hides.
import http from 'node:http'
import https from 'node:https'
import { deadline, until } from './until.mjs'

const ANSWER_MS = 15_000

/** Takes whole events out of a text: {events, rest}. An event has type, data, id (as it stands then), and lone: an id without data. */
export class EventReader {
  constructor() {
    this.rest = ''
    this.id = ''
    this.events = []
    this.comments = []
    this.retry = null
    this.clear()
  }

  clear() {
    this.type = ''
    this.data = null
  }

  add(text) {
    this.rest += text
    for (let end = this.rest.indexOf('\n'); end >= 0; end = this.rest.indexOf('\n')) {
      this.line(this.rest.slice(0, end))
      this.rest = this.rest.slice(end + 1)
    }
  }

  line(line) {
    if (line === '') { this.dispatch(); return }
    const colon = line.indexOf(':')
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')]
    if (colon < 0) throw new Error(`a line without a colon: ${line}`)
    if (name === '') this.comments.push({ text: value, at: performance.now() })
    else if (name === 'event') this.type = value
    else if (name === 'id') this.id = value
    else if (name === 'retry') this.retry = Number(value)
    else if (name === 'data') this.data = this.data === null ? value : `${this.data}\n${value}`
    else throw new Error(`an unknown field: ${line}`)
  }

  dispatch() {
    if (this.data !== null) this.events.push({ type: this.type || 'message', data: this.data, id: this.id, at: performance.now() })
    this.clear()
  }
}

export class EventStream extends EventReader {
  /** options: headers, ca (then over TLS), host. Resolves with the head of the answer: 200, or a refusal with its body. */
  static async open(t, port, path, { headers = {}, ca, method = 'GET' } = {}) {
    const stream = new EventStream()
    t.defer(() => stream.close())
    await stream.connect(port, path, { headers, ca, method })
    return stream
  }

  connect(port, path, { headers, ca, method }) {
    const answer = new Promise((resolve, reject) => {
      const options = { host: ca ? 'localhost' : '127.0.0.1', port, path, method, ca, agent: false,
        headers: { Accept: 'text/event-stream', ...headers } }
      this.request = (ca ? https : http).request(options)
      this.request.once('error', (error) => { this.ended = true; reject(error) })
      this.request.once('response', (res) => {
        this.status = res.statusCode
        this.headers = res.headers
        this.text = ''
        res.setEncoding('utf8')
        res.on('data', (part) => { this.text += part; if (this.status === 200) this.add(part) })
        res.on('error', () => {})
        res.once('close', () => { this.ended = true; this.whole = res.complete; if (this.status !== 200) resolve(this) })
        this.response = res
        if (this.status === 200) resolve(this)
      })
      this.request.end()
    })
    return deadline(answer, ANSWER_MS, `an answer to ${method} ${path.slice(0, 80)}`)
  }

  of(type) { return this.events.filter((event) => event.type === type) }
  messages() { return this.of('message').map(({ data }) => data) }

  /** Waits for the lone id that is first. */
  welcomed(ms = 5000) { return until(() => this.id, ms, 'the position') }
  got(count, ms = 10_000) {
    return until(() => this.messages().length >= count, ms, () => `${count} messages (have ${JSON.stringify(this.messages()).slice(0, 300)})`)
  }
  over(ms = 10_000) { return until(() => this.ended, ms, 'the stream to end') }
  close() { this.request?.destroy() }
}
