// Host names for a test: runs the test file in a mount namespace with further lines in /etc/hosts. If mount namespaces are not
// permitted, as in most containers, the lines are added to the file itself while the test runs.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const HOSTS = '/etc/hosts'
const UNSHARE = process.getuid() === 0 ? ['--mount'] : ['--map-root-user', '--mount']

function unshare(file, command, options) {
  return spawnSync('unshare', [...UNSHARE, 'sh', '-c', `mount --bind "$0" ${HOSTS} && exec "$@"`, file, ...command], options).status
}

/** lines: "ADDRESS NAME". Returns in the process that has them; call it before anything else. */
export function withHosts(lines) {
  if (process.env.VINHUB_TEST_HOSTS) return
  const before = readFileSync(HOSTS, 'utf8')
  const text = [before.trimEnd(), ...lines, ''].join('\n')
  const folder = mkdtempSync(join(tmpdir(), 'vinhub-hosts-'))
  const file = join(folder, 'hosts')
  writeFileSync(file, text)
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  if (unshare(file, ['true'], {}) === 0) {
    process.exit(unshare(file, [process.execPath, ...process.argv.slice(1)],
      { stdio: 'inherit', env: { ...process.env, VINHUB_TEST_HOSTS: '1' } }) ?? 1)
  }
  writeFileSync(HOSTS, text)
  process.on('exit', () => writeFileSync(HOSTS, before))
}
