// Compares what came with what a document shows, where … stands for anything.
export const ANY = '…'
const MORE = { [ANY]: ANY }

/** A JSON text with …, or null where the text is no JSON even so. */
export function parsePattern(text) {
  const strict = text.replaceAll(`:${ANY}`, `:"${ANY}"`).replaceAll(`,${ANY}}`, `,${JSON.stringify(MORE).slice(1)}`)
    .replaceAll(`{${ANY}}`, JSON.stringify(MORE)).replaceAll(`,${ANY}]`, `,"${ANY}"]`)
  try { return JSON.parse(strict) } catch { return null }
}

/** Why `value` is not what `pattern` shows, or null. */
export function difference(pattern, value, path = '') {
  if (pattern === ANY) return null
  if (Array.isArray(pattern) && Array.isArray(value)) {
    const open = pattern.at(-1) === ANY
    const shown = open ? pattern.slice(0, -1) : pattern
    if (open ? value.length < shown.length : value.length !== shown.length) return `${path} has ${value.length} items`
    return first(shown.map((item, i) => difference(item, value[i], `${path}[${i}]`)))
  }
  if (isObject(pattern) && isObject(value)) {
    const shown = Object.keys(pattern).filter((key) => key !== ANY)
    const missing = shown.find((key) => !(key in value))
    if (missing) return `${path}.${missing} is missing`
    const extra = Object.keys(value).find((key) => !(key in pattern))
    if (extra && !(ANY in pattern)) return `${path}.${extra} is not shown`
    return first(shown.map((key) => difference(pattern[key], value[key], `${path}.${key}`)))
  }
  if (typeof pattern === 'string' && typeof value === 'string' && pattern.includes(ANY)) return textDifference(pattern, value, path)
  return Object.is(pattern, value) ? null : `${path || 'it'} is ${JSON.stringify(value)}, not ${JSON.stringify(pattern)}`
}

function textDifference(pattern, value, path) {
  const parts = pattern.split(ANY).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's').test(value) ? null : `${path || 'it'} is ${JSON.stringify(value)}, not ${JSON.stringify(pattern)}`
}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value)
const first = (list) => list.find((item) => item !== null) ?? null

/** Why a text is not what a line of a document shows: as JSON where both are, else as text; or null. */
export function textMismatch(shown, got) {
  const pattern = parsePattern(shown)
  if (pattern !== null && typeof pattern === 'object') {
    let value
    try { value = JSON.parse(got) } catch { return `${JSON.stringify(got)} is not JSON` }
    return difference(pattern, value)
  }
  return textDifference(shown, got, '')
}
