// Today's relay, as the README describes it: one process, one upstream for each browser.
//   relay.mjs PORT HOST:PORT/PATH
import { WebSocket, WebSocketServer } from 'ws'

const [port, upstream] = process.argv.slice(2)
const WAITING_MAX = 1000 // messages of a browser whose upstream is not open yet

function relay(browser, request) {
  const path = new URL(request.url, 'ws://relay').pathname
  const backend = new WebSocket(`ws://${upstream}${path}`)
  const waiting = []

  browser.on('message', (data, binary) => {
    if (!binary && data.length === 4 && data.toString() === 'ping') browser.send('pong')
    else if (backend.readyState === WebSocket.OPEN) backend.send(data, { binary })
    else if (waiting.length < WAITING_MAX) waiting.push([data, { binary }])
  })
  backend.on('open', () => { for (const message of waiting.splice(0)) backend.send(...message) })
  backend.on('message', (data, binary) => browser.send(data, { binary }))

  browser.on('close', () => backend.terminate())
  browser.on('error', () => backend.terminate())
  backend.on('close', () => browser.close())
  backend.on('error', () => browser.close())
}

new WebSocketServer({ host: '127.0.0.1', port: Number(port), backlog: 4096 }).on('connection', relay)
