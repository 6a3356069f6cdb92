// Free TCP ports on loopback. Each process claims a block of ports, whatever other tests run at the same time: it listens on
// the block's first port as long as it lives. All are below the ports that the kernel gives to outgoing connections. tests/contract/redis_server.c takes its ports in the same way.
import net from 'node:net'

const FIRST = 10_000
const LAST = 27_999
const BLOCK = 200
const BLOCKS = (LAST + 1 - FIRST) / BLOCK

let block = null // {guard, first, next}

function listen(port, host) {
  return new Promise((resolve) => {
    const server = net.createServer()
    server.once('error', () => resolve(null))
    server.listen({ port, host, exclusive: true }, () => resolve(server))
  })
}

async function isFree(port) {
  const server = await listen(port, '0.0.0.0')
  if (server) await new Promise((resolve) => { server.close(resolve) })
  return server !== null
}

/** Claims a free block. The search begins at a block that depends on the process, so that few try the same one at once. */
async function claimBlock() {
  for (let tried = 0; tried < BLOCKS; tried++) {
    const first = FIRST + ((process.pid + tried) % BLOCKS) * BLOCK
    const guard = await listen(first, '127.0.0.1')
    if (!guard) continue
    guard.unref()
    return { guard, first, next: first + 1 }
  }
  throw new Error(`no block of ports from ${FIRST} to ${LAST} is free`)
}

/** A port nobody listens on, another one each time until the block is used up. */
export async function freePort() {
  block ??= claimBlock()
  const mine = await block
  for (let tried = 1; tried < BLOCK; tried++) {
    const port = mine.next
    mine.next = port + 1 === mine.first + BLOCK ? mine.first + 1 : port + 1
    if (await isFree(port)) return port
  }
  throw new Error(`no free port in ${mine.first}-${mine.first + BLOCK - 1}`)
}
