// Commands of the documents are run, or tried by the suite that their row in commands.mjs names.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { scratch, VINHUB } from '../lib/hub.mjs'
import { inOwnNetwork } from '../lib/namespace.mjs'
import { test } from '../lib/runner.mjs'
import { at, blocksIn, commandsOf, ROOT } from './blocks.mjs'
import { COMMANDS, ROOT_OF, SIM_OF } from './commands.mjs'
import { textMismatch } from '../lib/match.mjs'
import { folder, read, runCommand, startNode, startRedis } from './stage.mjs'

inOwnNetwork()

const shell = blocksIn('sh').flatMap((block) => commandsOf(block.text).map((command) => ({ block, command })))
const rowOf = (command) => {
  for (const row of COMMANDS) {
    const match = row.command.exec(command)
    if (match) return { ...row, match }
  }
  return null
}

test('every command is run, or tried by a suite', async () => {
  const unknown = shell.filter(({ command }) => rowOf(command) === null)
  assert.deepEqual(unknown.map(({ block, command }) => `${at(block)}: ${command}`), [], 'these have no row in tests/docs/commands.mjs')
  assert.ok(shell.length > 20, 'commands are found')
})

test('every row of commands.mjs is for a command that is shown, and its suite shows it', async () => {
  for (const { command: pattern, suite, shows, run } of COMMANDS) {
    assert.ok(shell.some(({ command }) => pattern.test(command)), `${pattern} is for a command of a document`)
    assert.ok(run ?? suite, `${pattern} is tried`)
    if (suite) assert.ok(read(suite).includes(shows), `${suite} has ${shows}`)
  }
})

test('the commands that can be run do what they are for', { timeout: 240_000 }, async (t) => {
  await startRedis(t)
  await startNode(t)
  const cwd = folder(t)
  let count = 0
  for (const { block, command } of shell) {
    const { run, match } = rowOf(command)
    if (!run) continue
    const real = run(match).replaceAll(ROOT_OF, ROOT).replaceAll(SIM_OF, join(dirname(VINHUB), 'tests/sim/sim'))
    const { code, out, err } = await runCommand(t, real, { cwd })
    assert.equal(code, 0, `${at(block)}: ${command}\n${out}${err}`)
    if (command.startsWith('redis-cli')) assert.match(out, /\S/, `${at(block)}: ${command} prints something`)
    count++
  }
  assert.ok(count >= 10, `${count} were run`)
})

/** [{command, output: lines}] of a console block. */
function dialogue(text) {
  const steps = []
  for (const line of text.trimEnd().split('\n')) {
    if (line.startsWith('$ ')) steps.push({ command: line.slice(2), output: [] })
    else steps.at(-1).output.push(line)
  }
  return steps
}

/** Why what a command printed is not what is shown. A last line … stands for any number of lines. */
function outputMismatch(shown, printed) {
  const open = shown.at(-1) === '…'
  const wanted = open ? shown.slice(0, -1) : shown
  if (open ? printed.length < wanted.length : printed.length !== wanted.length) return `${printed.length} lines:\n${printed.join('\n')}`
  return wanted.map((line, i) => textMismatch(line, printed[i])).find((why) => why !== null) ?? null
}

for (const block of blocksIn('console')) {
  test(`the commands at ${at(block)} print what is shown`, async (t) => {
    await startRedis(t)
    await startNode(t)
    for (const { command, output } of dialogue(block.text)) {
      const { out, err } = await runCommand(t, command, { cwd: folder(t) })
      const printed = (out + err).trimEnd().split('\n').map((line) => line.trimEnd())
      const why = outputMismatch(output, printed)
      assert.equal(why, null, `${at(block)}: ${command}: ${why}`)
    }
  })
}

test('the user of each redis block may do all that a node does', async (t) => {
  const blocks = blocksIn('redis')
  assert.ok(blocks.length > 0, 'there is one')
  await startRedis(t)
  for (const block of blocks) {
    for (const line of block.text.trim().split('\n')) {
      const { out } = await runCommand(t, `redis-cli ${line.replaceAll('>PASSWORD', "'>'secret").replace(/([&~]\S+|\S+\|\S+)/g, "'$1'")}`)
      assert.equal(out, 'OK\n', `${at(block)}: ${line}`)
    }
  }
  await works(t, 'redis://hub:secret@127.0.0.1:6379/0')
})

/** A node as that user gets pushes and revokes tokens, and Redis refuses it nothing. */
async function works(t, redis) {
  const { hub, page } = await startNode(t, { redis })
  await page.got(3)
  const revoked = await runCommand(t, `curl -sf -H 'Content-Type: application/json' -d '{"jti":"x"}' http://127.0.0.1:9600/api/revoke`)
  assert.equal(revoked.out, '{"closed":0}', revoked.err)
  await hub.stop()
  assert.deepEqual(hub.lines.filter((line) => /redis_error|redis_info_refused|redis_channel_refused/.test(line)), [])
}

for (const block of blocksIn('acl')) {
  test(`the user of the ACL file at ${at(block)} may do all that a node does`, async (t) => {
    const file = join(scratch(t), 'users.acl')
    writeFileSync(file, `user default off\n${block.text.replace('>PASSWORD', '>secret')}`)
    await startRedis(t, ['--aclfile', file])
    await works(t, 'redis://vinhub:secret@127.0.0.1:6379/0')
  })
}
