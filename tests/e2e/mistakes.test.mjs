// Mistakes that people make in a configuration: the message alone says what was expected, what came, and where. In the
// messages below … stands for anything, such as the list of all keys.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runVinhub, scratch } from '../lib/hub.mjs'
import { textMismatch } from '../lib/match.mjs'
import { test } from '../lib/runner.mjs'

const SERVICE = 'services:\n  - name: remoteWs\n    upstream: 127.0.0.1:28088/x\n'
const upstream = (url) => `services: [{name: a, upstream: "${url}"}]\n`

/** name, the file, and its messages: each line after "FILE:". */
const FILES = [
  ['a tab in the indentation', `${SERVICE}clients:\n\tmax: 5\n`, '5: invalid YAML: …lines are indented with spaces, not tabs'],
  ['a quote that is not closed', `${SERVICE}redis: {url: "redis://x}\n`, '5: invalid YAML: …that begins on line 4; is the closing quote missing?'],
  ['a colon that is missing', 'services\n  - name: remoteWs\n', '2: invalid YAML: …is ":" missing at the end of a line above…'],
  ['a section with another letter', `${SERVICE}client: {max: 5}\n`, '4: client: unknown key, expected one of: …(did you mean clients?)'],
  ['a key with another letter', `${SERVICE}clients: {max_mesage: 1MiB}\n`, '4: clients.max_mesage: unknown key, expected one of: …(did you mean max_message?)'],
  ['a key in another section', `${SERVICE}drain: 3s\n`, '4: drain: unknown key, expected one of: …(did you mean node.drain?)'],
  ['a key of a service at the top', `${SERVICE}heartbeat: {every: 5s}\n`, '4: heartbeat: unknown key, expected one of: …(it is a key of a service)'],
  ['the relay\'s own map', 'websocket:\n  remoteWs: 127.0.0.1:28088/x\n',
    '1: websocket: unknown key, …(the relay\'s map is written as the list services here)', ' services: expected at least one: …'],
  ['services as a map', 'services:\n  remoteWs: 127.0.0.1:28088/x\n', '2: services: expected a list: "- name: NAME" with "upstream: URL" below, for each service'],
  ['no service at all', 'node: {lease: 3s}\n', ' services: expected at least one: "- name: NAME" with "upstream: URL" below, or --service NAME=URL'],
  ['a service without a backend', 'services:\n  - name: a\n', '2: services.a.upstream: expected the URL of the backend, as host:port/path: each service needs one'],
  ['two services of one name', `${SERVICE}  - name: remoteWs\n    upstream: 127.0.0.1:1/y\n`, '4: services.remoteWs.name: duplicate name: each name is allowed once'],
  ['a key twice', `${SERVICE}clients: {max: 5}\nclients: {max: 6}\n`, '5: clients: duplicate key, first defined on line 4'],
  ['a size in MB', `${SERVICE}clients: {max_message: 1MB}\n`, '4: clients.max_message: expected a size in bytes, KiB, MiB or GiB from 1 to 1GiB, got "1MB"'],
  ['a duration without a unit', `${SERVICE}node: {lease: 3}\n`, '4: node.lease: expected a duration with unit (ms s m h) from 500ms to 1h, got "3"'],
  ['a duration that is too short', `${SERVICE}node: {lease: 100ms}\n`, '4: node.lease: expected a duration with unit (ms s m h) from 500ms to 1h, got "100ms"'],
  ['a number below its least', `${SERVICE}clients: {max: -1}\n`, '4: clients.max: expected a whole number from 0 to 10000000, got "-1"'],
  ['yes in place of true', `${SERVICE}clients: {compression: yes}\n`, '4: clients.compression: expected true or false, got "yes"'],
  ['a word that is none of the choices', `${SERVICE}redis: {on_loss: stop}\n`, '4: redis.on_loss: expected one of fence, serve, got "stop"'],
  ['a list where a text belongs', `${SERVICE}node: {id: [a]}\n`, '4: node.id: expected a name of …, got a list'],
  ['a text where a list belongs', `${SERVICE}origins: https://a.example\n`, '4: origins: expected a list, as [a, b], got a text'],
  ['a text where a map belongs', `${SERVICE}clients: 5\n`, '4: clients: expected a map, as {key: value}, got a text'],
  ['a port without an address', `${SERVICE}listen: {address: 8080}\n`, '4: listen.address: expected ADDRESS:PORT, as 0.0.0.0:8080 or [::1]:8080, got "8080"'],
  ['an HTTP URL of a backend', upstream('https://h/y'), '1: services[0].upstream: expected host:port/path, …got "https://h/y": a WebSocket URL begins with ws:// or wss://'],
  ['a backend without scheme and port', upstream('h/y'), '1: services[0].upstream: expected …got "h/y": without ws:// it needs a port'],
  ['an unknown placeholder', upstream('ws://h/{vim}'), '1: services[0].upstream: expected …{path} {user} {vin} …got "ws://h/{vim}": it has an unknown placeholder'],
  ['a Redis URL without a scheme', `${SERVICE}redis: {url: "127.0.0.1:6379"}\n`, '4: redis.url: expected redis://…, got "***": it does not begin with redis://'],
  ['a Redis URL with a database that is no number', `${SERVICE}redis: {url: "redis://:hush@h:1/x"}\n`,
    '4: redis.url: expected redis://…, got "***": host, port, master or database are not of this form'],
  ['an origin with a path', `${SERVICE}origins: ["https://a.example/app"]\n`, '4: origins: expected a host, …got "https://a.example/app"'],
  ['a network of 33 bits', `${SERVICE}listen: {trusted_proxies: ["10.0.0.0/33"]}\n`, '4: listen.trusted_proxies: expected an address or CIDR, as 10.0.0.0/8 or ::1, got "10.0.0.0/33"'],
  ['a certificate without its key', `${SERVICE}listen: {tls_cert: /nowhere.pem}\n`, '4: listen.tls_cert: expected tls_cert and tls_key, or neither, got tls_cert alone'],
  ['an admin port for everybody', `${SERVICE}admin: {address: "0.0.0.0:9600"}\n`,
    '4: admin.address: expected a loopback address; another one needs admin.token (or VINHUB_ADMIN_TOKEN) or admin.allow_open: true; got "0.0.0.0:9600"'],
  ['a default service that there is not', `${SERVICE}default_service: remotews\n`, '4: default_service: expected the name of a configured service, got "remotews"'],
  ['waits in the wrong order', 'services: [{name: a, upstream: "ws://h/", reconnect: {min: 20s, max: 10s}}]\n',
    '1: services.a.reconnect.min: expected at most reconnect.max (10000 ms), got 20000 ms'],
  ['a variable that is not set', 'services: [{name: a, upstream: "ws://h/", headers: {Authorization: "${NOT_SET_X}"}}]\n',
    '1: services[0].headers: expected the environment variable NOT_SET_X, which is not set'],
  ['tokens without a secret', `${SERVICE.trimEnd()}{path}\n    session: "{user}:{vin}"\nauth: {mode: jwt}\n`,
    '5: auth.secret_file: expected a file with the secret for HS256 (or VINHUB_JWT_SECRET), got none'],
]

/** name, arguments, environment, messages. */
const STARTS = [
  ['a file that there is not', ['-c', '/nowhere.yaml'], {}, '/nowhere.yaml: the file can\'t be read: No such file or directory'],
  ['an unknown option', ['--portt', '1'], {}, 'vinhub: expected an option of vinhub (got "--portt"); see vinhub --help'],
  ['an option without its value', ['--listen'], {}, 'vinhub: this option needs a value (got "--listen"); see vinhub --help'],
  ['a service without a URL', ['--service', 'remoteWs'], {}, 'vinhub: --service: expected NAME=URL (got "remoteWs"); see vinhub --help'],
  ['a port alone', ['--service', 'a=h:1/', '--listen', '8080'], {}, '--listen: listen.address: expected ADDRESS:PORT, as 0.0.0.0:8080 or [::1]:8080, got "8080"'],
  ['a variable with another letter', ['--service', 'a=h:1/'], { VINHUB__NODE__LAESE: '3s' }, 'VINHUB__NODE__LAESE: node.laese: unknown key, expected one of: …(did you mean lease?)'],
  ['a variable of a service that there is not', ['--service', 'a=h:1/'], { VINHUB__SERVICES__FAULT__REPLAY: '3' },
    'VINHUB__SERVICES__FAULT__REPLAY: services: expected VINHUB__SERVICES__NAME__KEY with the NAME of a service that exists: A for a'],
]

/** Exit code 2, and these lines on standard error. */
function assertSaid({ code, err }, shown, why) {
  const lines = err.trimEnd().split('\n')
  assert.equal(code, 2, `${why}: ${err}`)
  assert.equal(lines.length, shown.length, `${why}: ${err}`)
  shown.forEach((line, i) => assert.equal(textMismatch(line, lines[i]), null, `${why}\n  shown: ${line}\n  got:   ${lines[i]}`))
}

for (const [name, text, ...said] of FILES) {
  test(`${name} in the file is named`, async (t) => {
    const file = join(scratch(t), 'vinhub.yaml')
    writeFileSync(file, text)
    assertSaid(await runVinhub(['-c', file, '--check']), said.map((line) => `${file}:${line}`), name)
  })
}

for (const [name, args, env, said] of STARTS) {
  test(`${name} at the start is named`, async () => {
    assertSaid(await runVinhub([...args, '--check'].filter((arg, i, all) => !(all[0] === '--listen' && arg === '--check')), { env }), [said], name)
  })
}
