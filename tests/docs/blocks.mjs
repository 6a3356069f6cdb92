// The documents of the project, and what can be tried in them: fenced blocks, code in the text, links.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** The list of changes is about former versions, too: it may name things that no longer exist. */
const HISTORY = ['CHANGELOG.md']

function markdownFiles() {
  const { status, stdout, stderr } = spawnSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], { cwd: ROOT, encoding: 'utf8' })
  if (status !== 0) throw new Error(`git ls-files: ${stderr}`)
  return stdout.split('\n').filter((name) => name !== '' && !name.includes('node_modules/'))
}

/** [{file, line, language, words, text}] of one document; `words` is what stands behind the language. */
function fencedBlocks(file, text) {
  const blocks = []
  let open = null
  text.split('\n').forEach((line, index) => {
    const fence = /^( *)```(.*)$/.exec(line)
    if (fence && open) {
      blocks.push({ ...open, text: open.lines.join('\n') + '\n' })
      open = null
    } else if (fence) {
      const [language, ...words] = fence[2].trim().split(/\s+/)
      open = { file, line: index + 1, indent: fence[1].length, language, words, lines: [] }
    } else if (open) {
      open.lines.push(line.slice(open.indent))
    }
  })
  if (open) throw new Error(`${file}:${open.line}: this block has no end`)
  return blocks
}

function readDocument(file) {
  const text = readFileSync(join(ROOT, file), 'utf8')
  const blocks = fencedBlocks(file, text)
  const prose = text.replace(/^( *)```[\s\S]*?^\1```$/gm, (block) => block.replace(/[^\n]/g, ''))
  const code = [...prose.matchAll(/`([^`\n]+)`/g)].map(([, span]) => span)
  return { file, text, prose, blocks, code, history: HISTORY.includes(file) }
}

export const documents = markdownFiles().map(readDocument)
export const blocksIn = (...languages) => documents.flatMap(({ blocks }) => blocks).filter(({ language }) => languages.includes(language))
export const at = ({ file, line }) => `${file}:${line}`

/** The commands of a `sh` block, one a line: comments left out, lines that go on put together. */
export function commandsOf(text) {
  return text.replace(/\\\n\s*/g, ' ').replace(/'([^']*)'/g, (quoted) => quoted.replace(/\n\s*/g, ' '))
    .split('\n').map((line) => line.replace(/(^|\s)#.*$/, '').trim()).filter((line) => line !== '')
}
