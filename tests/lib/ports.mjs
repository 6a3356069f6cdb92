// Free TCP ports on loopback. e2e/run gives each file that runs at the same time a range of its own
// by VINHUB_TEST_PORTS=FIRST-LAST, so two files never race for one port.
import net from 'node:net'

const [first, last] = (process.env.VINHUB_TEST_PORTS ?? '23000-23999').split('-').map(Number)
let next = first

function isFree(port) {
  return new Promise((resolve) => {
    const server = net.createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)))
  })
}

/** A port nobody listens on, another one each time until the range is used up. */
export async function freePort() {
  for (let tried = 0; tried <= last - first; tried++) {
    const port = next
    next = next === last ? first : next + 1
    if (await isFree(port)) return port
  }
  throw new Error(`no free port in ${first}-${last}`)
}
