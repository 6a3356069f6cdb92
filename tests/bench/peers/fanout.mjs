// A fan-out hub on npm `ws`, as one writes it in an afternoon: browsers of a path share one upstream.
//   fanout.mjs PORT HOST:PORT/PATH
import { WebSocket, WebSocketServer } from 'ws'

const [port, upstream] = process.argv.slice(2)
const sessions = new Map() // path -> { browsers, backend }

function open(path) {
  const session = { browsers: new Set(), backend: new WebSocket(`ws://${upstream}${path}`) }
  session.backend.on('message', (data, binary) => {
    for (const browser of session.browsers) browser.send(data, { binary })
  })
  session.backend.on('error', () => {})
  sessions.set(path, session)
  return session
}

function join(browser, request) {
  const path = new URL(request.url, 'ws://fanout').pathname
  const session = sessions.get(path) ?? open(path)
  session.browsers.add(browser)

  browser.on('message', (data, binary) => {
    if (!binary && data.length === 4 && data.toString() === 'ping') browser.send('pong')
    else if (session.backend.readyState === WebSocket.OPEN) session.backend.send(data, { binary })
  })
  browser.on('error', () => browser.terminate())
  browser.on('close', () => {
    session.browsers.delete(browser)
    if (session.browsers.size > 0) return
    session.backend.terminate()
    sessions.delete(path)
  })
}

new WebSocketServer({ host: '127.0.0.1', port: Number(port), backlog: 4096 }).on('connection', join)
