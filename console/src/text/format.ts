/** Numbers, sizes, times and values as people read them. */

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const SHORT = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })

/** `1,204`. */
export const count = (n: number): string => WHOLE.format(n)

/** `1,204 changes`, `1 change`. */
export const counted = (n: number, noun: string, plural = `${noun}s`): string => `${count(n)} ${n === 1 ? noun : plural}`

/** A rate or another number that need not be whole: `1.8`, `150`. */
export const amount = (n: number): string => (Math.abs(n) < 100 ? SHORT : WHOLE).format(n)

/** As `pg_size_pretty` names sizes: units of 1,024. */
export function bytes(n: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  let size = n
  while (Math.abs(size) >= 1024 && unit < units.length - 1) {
    size /= 1024
    unit++
  }
  return `${unit === 0 ? WHOLE.format(size) : amount(size)} ${units[unit]}`
}

/** A time span in seconds: `2 ms`, `1.3 s`, `4 min`, `2.5 h`, `3 d`. */
export function duration(seconds: number): string {
  if (seconds < 0.001) return seconds <= 0 ? '0 ms' : '< 1 ms'
  if (seconds < 1) return `${amount(seconds < 0.1 ? Math.round(seconds * 10_000) / 10 : Math.round(seconds * 1000))} ms`
  if (seconds < 60) return `${SHORT.format(seconds)} s`
  if (seconds < 3600) return `${WHOLE.format(seconds / 60)} min`
  if (seconds < 86_400) return `${SHORT.format(seconds / 3600)} h`
  return `${SHORT.format(seconds / 86_400)} d`
}

/** `3 s ago`, from times in milliseconds. */
export const ago = (at: number, now: number): string => {
  const seconds = (now - at) / 1000
  return seconds < 1 ? 'now' : `${duration(seconds < 60 ? Math.floor(seconds) : seconds)} ago`
}

/** The time of day, `14:03:07`; with milliseconds if asked for. */
export function clock(at: number, precise = false): string {
  const date = new Date(at)
  const two = (n: number): string => String(n).padStart(2, '0')
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  return precise ? `${text}.${String(date.getMilliseconds()).padStart(3, '0')}` : text
}

/** The end of a position, which is what differs between those that stand together: `…4D848` of `16/B374D848`. */
export const shortPosition = (position: string): string => (position.length > 9 ? `…${position.slice(-6)}` : position)

export type Look = 'null' | 'empty' | 'absent' | 'plain'

/** The look of a value: NULL, an empty text and a value that did not come are not the same. */
export const lookOf = (value: unknown): Look => (value === undefined ? 'absent' : value === null ? 'null' : value === '' ? 'empty' : 'plain')

/**
 * The beginning of a value on one line, at most about `most` characters of it. However large the value, the work is bounded:
 * of an array or object no more is looked at than is shown.
 */
export function brief(value: unknown, most = 160): string {
  if (value === null || value === undefined) return ''
  if (typeof value === 'string') return oneLine(value, most)
  if (typeof value !== 'object') return String(value)
  return oneLine(json(value, most + 1), most)
}

function oneLine(text: string, most: number): string {
  const start = text.length > most ? `${text.slice(0, most)}…` : text
  return /[\n\r\t]/.test(start) ? start.replace(/\r?\n|\r/g, '⏎').replace(/\t/g, ' ') : start
}

/** JSON of a value, cut off once it has `most` characters. */
function json(value: unknown, most: number): string {
  let text = ''
  const write = (part: unknown): boolean => {
    if (text.length > most) return false
    if (Array.isArray(part)) {
      text += '['
      for (let i = 0; i < part.length; i++) {
        if (i > 0) text += ', '
        if (!write(part[i])) return false
      }
      text += ']'
    } else if (typeof part === 'object' && part !== null) {
      text += '{'
      let isFirst = true
      for (const name in part) {
        if (!isFirst) text += ', '
        isFirst = false
        text += `${JSON.stringify(name)}: `
        if (!write((part as Record<string, unknown>)[name])) return false
      }
      text += '}'
    } else text += typeof part === 'string' ? JSON.stringify(part.slice(0, most)) : String(part)
    return text.length <= most
  }
  write(value)
  return text
}

/** A value in full, for reading and copying. */
export const whole = (value: unknown): string =>
  value === null ? 'NULL' : value === undefined ? '' : typeof value === 'object' ? JSON.stringify(value, null, 2) : String(value)

/** A message of the server as a sentence: they begin in lower case and end without a stop. */
export const sentence = (text: string): string => text.replace(/^./, (first) => first.toUpperCase()).replace(/(?<=[\w)"'])$/, '.')

/** A name as SQL has it: quoted only where it must be. */
export const identifier = (name: string): string => (/^[a-z_][a-z0-9_$]*$/.test(name) && !RESERVED.has(name) ? name : `"${name.replaceAll('"', '""')}"`)

const RESERVED = new Set('all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit localtime localtimestamp not null offset on only or order placing primary references returning select session_user some symmetric system_user table then to trailing true union unique user using variadic when where window with'.split(' '))

/** The name that a table is asked for by: `orders` of `public`, else `schema.table`, quoted as SQL wants it. */
export const tableName = (schema: string, name: string): string => (schema === 'public' ? identifier(name) : `${identifier(schema)}.${identifier(name)}`)
