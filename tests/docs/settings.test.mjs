// Configurations of the documents go through vinhub --check; parts for nginx through nginx -t.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { scratch, runVinhub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { at, blocksIn } from './blocks.mjs'
import { runCommand } from './stage.mjs'

const SERVICE = ['--service', 'remoteWs=127.0.0.1:28088/carmonitor/remotews']

/** A folder with what the configurations name beside them. */
function place(t) {
  const folder = scratch(t)
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  writeFileSync(join(folder, 'jwt.pem'), publicKey.export({ type: 'spki', format: 'pem' }))
  return folder
}

const check = (args, options) => runVinhub([...args, '--check'], options)

for (const block of blocksIn('yaml')) {
  test(`the configuration at ${at(block)} is accepted`, async (t) => {
    const folder = place(t)
    const file = join(folder, 'vinhub.yaml')
    writeFileSync(file, block.text.replaceAll('jwt.pem', join(folder, 'jwt.pem')))
    const { code, err } = await check(['-c', file])
    assert.equal(code, 0, err)
  })
}

for (const block of blocksIn('env')) {
  test(`the variables at ${at(block)} are accepted`, async () => {
    const env = Object.fromEntries(block.text.trim().split('\n').map((line) => {
      const [, name, value] = /^(VINHUB_\w+)=(.*)$/.exec(line) ?? assert.fail(`expected VARIABLE=VALUE, got ${line}`)
      return [name, value]
    }))
    const { code, err } = await check(SERVICE, { env })
    assert.equal(code, 0, err)
  })
}

for (const block of blocksIn('nginx')) {
  test(`the part of nginx.conf at ${at(block)} is accepted`, async (t) => {
    const folder = scratch(t)
    const upstreams = ['api', 'hubs'].map((name) => `upstream ${name} { server 127.0.0.1:1; }`).join('\n')
    const file = join(folder, 'nginx.conf')
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${folder}/${what};`).join(' ')
    writeFileSync(file, `pid ${folder}/pid; error_log stderr;\nevents {}\nhttp { access_log off; ${temporary}\n${upstreams}\n${block.text}}\n`)
    const { code, err } = await runCommand(t, `PATH=$PATH:/usr/sbin nginx -t -p ${folder} -c ${file}`)
    assert.equal(code, 0, err)
  })
}

test('there are configurations, variables and a part of nginx.conf', async () => {
  for (const language of ['yaml', 'env', 'nginx']) assert.ok(blocksIn(language).length > 0, language)
})
