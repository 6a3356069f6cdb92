// Links, keys, files and options that the documents name must exist. And the form of the documents.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { runVinhub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { at, documents, ROOT } from './blocks.mjs'
import { read, runCommand } from './stage.mjs'

const LANGUAGES = ['yaml', 'env', 'sh', 'console', 'transcript', 'html', 'js', 'nginx', 'redis', 'acl', 'text']
/** Names of hosts that look like keys. */
const HOSTS = ['redis.shop']
const current = documents.filter(({ history }) => !history)

/** As GitHub names a heading. */
const anchorOf = (heading) => heading.toLowerCase().replace(/`|\*/g, '').replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')
const anchorsOf = (text) => [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading))

test('every block has a language that is tried', async () => {
  const blocks = documents.flatMap((document) => document.blocks)
  assert.deepEqual(blocks.filter(({ language }) => !LANGUAGES.includes(language)).map((block) => `${at(block)}: ${block.language || 'none'}`), [])
  const hidden = blocks.filter(({ language, text }) => language === 'text' && /^(\$ |vinhub(ctl)? |curl |docker |redis-cli )/m.test(text))
  assert.deepEqual(hidden.map(at), [], 'a picture holds no commands')
})

test('links lead somewhere', async () => {
  const broken = documents.flatMap(({ file, prose }) => [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => ({ file, target })))
    .filter(({ target }) => !/^(https?|mailto):/.test(target))
    .filter(({ file, target }) => {
      const [path, anchor] = target.split('#')
      const full = path === '' ? file : normalize(join(dirname(file), path))
      if (!existsSync(join(ROOT, full))) return true
      return anchor !== undefined && !anchorsOf(read(full)).includes(decodeURIComponent(anchor))
    })
  assert.deepEqual(broken.map(({ file, target }) => `${file}: ${target}`), [])
})

test('keys that the text names are keys', async () => {
  const { out } = await runVinhub(['--print-config-table'])
  const keys = [...out.matchAll(/^\| `([^`]+)`/gm)].map(([, key]) => key.replace('services[].', ''))
  const sections = new Set(keys.map((key) => key.split('.')[0]).filter((section) => keys.some((key) => key.startsWith(`${section}.`))))
  const isKey = (name) => keys.some((key) => key === name || key.startsWith(`${name}.`))
  const named = current.flatMap(({ file, code }) => code.flatMap((span) => [...span.matchAll(/(?<![\w./-])([a-z_]+(?:\.[a-z_]+)+)(?![\w./-])/g)]
    .map(([, name]) => ({ file, name }))))
    .filter(({ name }) => !HOSTS.includes(name) && sections.has(name.split('.')[0]) && !/\.(c|h|md|mjs|js|yaml|yml|pem|json|conf|lua|service|env|sh)$/.test(name))
  assert.deepEqual(named.filter(({ name }) => !isKey(name)).map(({ file, name }) => `${file}: ${name}`), [])
  assert.ok(named.length > 30, `${named.length} keys are named`)
})

test('files that the text names are there', async () => {
  const named = current.flatMap(({ file, code }) => code.flatMap((span) =>
    [...span.matchAll(/(?:^|\s)((?:\.\/)?(?:scripts|tests|docker|hub|common)\/[\w./-]+)(?![\w*])/g)].map(([, path]) => ({ file, path: path.replace(/[.,:]$/, '') }))))
    .filter(({ path }) => !/NAME|SUITE|FILE/.test(path))
  const missing = named.filter(({ path }) => !existsSync(join(ROOT, path)))
  assert.deepEqual(missing.map(({ file, path }) => `${file}: ${path}`), [])
  assert.ok(named.length > 30, `${named.length} files are named`)
})

test('options and commands that the text names are known to the programs', async (t) => {
  const help = { vinhub: (await runVinhub(['--help'])).out, vinhubctl: (await runCommand(t, 'vinhubctl --help')).out }
  const unknown = current.flatMap(({ file, code }) => code.flatMap((span) => {
    const match = /^(?:build\/)?(vinhub|vinhubctl)( .*)$/.exec(span)
    if (!match) return []
    const [, program, rest] = match
    const words = [...rest.matchAll(/ (--[a-z-]+)/g)].map(([, option]) => option)
    const command = program === 'vinhubctl' && /^ (?:--\S+ \S+ )*([a-z]+)/.exec(rest)?.[1]
    if (command) words.push(`\n  ${command}`)
    return words.filter((word) => !help[program].includes(word)).map((word) => `${file}: ${program} ${word.trim()}`)
  }))
  assert.deepEqual(unknown, [])
})

/** Names of events in the sources: what log_info() and its relatives are called with. */
function eventsIn(text) {
  const calls = [...text.matchAll(/\blog_(?:debug|info|warn|error)(?:_cause)?\(([^,;]*),|\bLOG_EVENT\([^,]*,[^,]*,([^,]*),|\bline_begin\([^,]*,[^,]*,([^,)]*)\)|\bevent = ("\w+");/g)]
  return calls.flatMap(([, ...groups]) => [...groups.filter(Boolean).join(' ').matchAll(/"([a-z_]+)"/g)].map(([, name]) => name))
}

test('every event of the log is explained in hub/docs/log.md, and none that is not there', async (t) => {
  const { out } = await runCommand(t, "git ls-files -co --exclude-standard 'common/*.c' 'hub/*.c'")
  const written = new Set(out.trim().split('\n').flatMap((file) => eventsIn(read(file))))
  const document = read('hub/docs/log.md')
  const explained = new Set([...document.matchAll(/^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|/gm), ...document.matchAll(/machine: ([^.]*)\./g)]
    .flatMap(([, names]) => [...names.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name)))
  assert.deepEqual([...written].filter((event) => !explained.has(event)).sort(), [], 'these are missing')
  assert.deepEqual([...explained].filter((event) => !written.has(event)).sort(), [], 'these are not written')
  assert.ok(written.size > 40)
})

test('every code of an ERROR is explained in hub/docs/protocol.md', async () => {
  const codes = new Set([...read('common/v1_decode.c').matchAll(/mistaken\(&?\w+,\s*"(\w+)"/g)].map(([, code]) => code))
  const document = read('hub/docs/protocol.md')
  assert.deepEqual([...codes].filter((code) => !document.includes(`\`${code}\``)).sort(), [])
  assert.ok(codes.size >= 8, [...codes].join(' '))
})

test('README.md is an introduction: at most 150 lines, none over 120 columns', async () => {
  const lines = read('README.md').trimEnd().split('\n')
  assert.ok(lines.length <= 150, `${lines.length} lines`)
  assert.deepEqual(lines.filter((line) => [...line].length > 120), [])
})
