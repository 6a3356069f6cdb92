// Runs a test file in a network namespace of its own, where well-known ports are free whatever else
// runs on the machine. Where namespaces are not permitted the file runs as it is.
import { spawnSync } from 'node:child_process'

const UNSHARE = process.getuid() === 0 ? ['--net'] : ['--map-root-user', '--net']

export function inOwnNetwork() {
  if (process.env.VINHUB_TEST_NAMESPACE) return
  if (spawnSync('unshare', [...UNSHARE, 'true']).status !== 0) return
  const { status } = spawnSync('unshare', [...UNSHARE, 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh',
    process.execPath, ...process.argv.slice(1)], { stdio: 'inherit', env: { ...process.env, VINHUB_TEST_NAMESPACE: '1' } })
  process.exit(status ?? 1)
}
