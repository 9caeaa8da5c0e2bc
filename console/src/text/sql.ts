/** The text of a predicate as the query bar sees it: its parts, for colours, and the words that may come next. */

export type Kind = 'keyword' | 'column' | 'name' | 'text' | 'number' | 'operator' | 'parameter' | 'space' | 'open' | 'close' | 'unfinished'

export interface Token {
  readonly kind: Kind
  readonly text: string
  /** Where it begins, as an index of the text. */
  readonly at: number
}

const KEYWORDS = new Set('and or not in is null true false unknown like ilike between symmetric distinct from any some all array escape collate cast'.split(' '))

const FORMS: readonly (readonly [Kind, RegExp])[] = [
  ['space', /\s+/y],
  ['text', /[eE]?'(?:[^']|'')*'/y],
  ['unfinished', /[eE]?'(?:[^']|'')*$/y],
  ['name', /"(?:[^"]|"")*"/y],
  ['unfinished', /"(?:[^"]|"")*$/y],
  ['parameter', /\$\d+/y],
  ['number', /(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/y],
  ['name', /[\p{L}_][\p{L}\p{N}_$]*/uy],
  ['open', /[([]/y],
  ['close', /[)\]]/y],
  ['operator', /::|[-+*/<>=~!@#%^&|?]+|[.,:;]/y],
  ['operator', /./suy],
]

/** The parts of a predicate; put together they are the text. */
export function tokens(text: string, columns: ReadonlySet<string> = new Set()): Token[] {
  const found: Token[] = []
  let at = 0
  while (at < text.length) {
    for (const [form, pattern] of FORMS) {
      pattern.lastIndex = at
      const part = pattern.exec(text)?.[0]
      if (!part) continue
      found.push({ kind: form === 'name' ? kindOfName(part, columns) : form, text: part, at })
      at += part.length
      break
    }
  }
  return found
}

function kindOfName(part: string, columns: ReadonlySet<string>): Kind {
  if (columns.has(nameOf(part))) return 'column'
  return KEYWORDS.has(part.toLowerCase()) ? 'keyword' : 'name'
}

/** The name that a token means: unquoted ones are folded. */
const nameOf = (part: string): string => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part.toLowerCase())

export interface Column {
  readonly name: string
  readonly type: string
  readonly enum?: readonly string[]
}

export interface Suggestion {
  readonly text: string
  /** Its meaning, for people. */
  readonly about: string
  /** Where in the text it goes: what it replaces is from `from` to `to`. */
  readonly from: number
  readonly to: number
}

const MOST_SUGGESTIONS = 12
const quoted = (label: string): string => `'${label.replaceAll("'", "''")}'`
const named = (name: string): string => (/^[a-z_][a-z0-9_$]*$/.test(name) && !KEYWORDS.has(name) ? name : `"${name.replaceAll('"', '""')}"`)

/** The words that may stand at the caret: columns, then operators, then values, then what joins two conditions. */
export function suggestions(text: string, caret: number, columns: readonly Column[]): Suggestion[] {
  const names = new Map(columns.map((column) => [column.name, column]))
  const all = tokens(text.slice(0, caret), new Set(names.keys()))
  const last = all.at(-1)
  const isWord = last && ['name', 'column', 'keyword', 'unfinished'].includes(last.kind)
  const partial = isWord ? last.text : ''
  const before = (isWord ? all.slice(0, -1) : all).filter(({ kind }) => kind !== 'space')
  const from = caret - partial.length
  const offer = (words: readonly (readonly [string, string])[]): Suggestion[] => {
    const wanted = partial.replace(/^['"]/, '').toLowerCase()
    return words
      .filter(([word]) => word !== partial && word.replace(/^['"]/, '').toLowerCase().startsWith(wanted))
      .slice(0, MOST_SUGGESTIONS)
      .map(([word, about]) => ({ text: word, about, from, to: caret }))
  }
  const previous = before.at(-1)
  const columnOf = (token: Token | undefined): Column | undefined => (token?.kind === 'column' ? names.get(nameOf(token.text)) : undefined)
  const own = columns.map(({ name, type }) => [named(name), type] as const)
  const word = previous?.kind === 'keyword' ? previous.text.toLowerCase() : undefined
  const column = columnOf(previous)
  if (last?.kind === 'unfinished') return last.text.startsWith('"') || !previous ? offer(own) : offer(valuesFor(subjectOf(before, columnOf)))
  if (!previous || word === 'and' && !isBetween(before) || word === 'or' || word === 'not' || (previous.kind === 'open' && !subjectOf(before, columnOf))) {
    return offer([...own, ['NOT', 'the opposite'], ['(', 'a group']])
  }
  if (column) return offer(operatorsFor(column.type))
  if (word === 'is') return offer([['NULL', 'no value'], ['NOT NULL', 'any value'], ['TRUE', ''], ['FALSE', ''], ['DISTINCT FROM', 'like <>, NULL being a value'], ['NOT DISTINCT FROM', 'like =, NULL being a value']])
  if (previous.kind === 'operator' || previous.kind === 'open' || (word && ['like', 'ilike', 'between', 'in', 'from', 'and'].includes(word))) {
    const subject = subjectOf(before, columnOf)
    return offer([...valuesFor(subject), ...(word === 'in' ? [['(', 'a list'] as const] : own.filter(([name]) => name !== subject?.name))])
  }
  return offer([['AND', 'both'], ['OR', 'either']])
}

/** The AND at the end belongs to a BETWEEN. */
const isBetween = (before: readonly Token[]): boolean => /between$/i.test(before.at(-3)?.text ?? '')

/** The column that the condition at the end is about. */
function subjectOf(before: readonly Token[], columnOf: (token: Token | undefined) => Column | undefined): Column | undefined {
  for (let i = before.length - 1; i >= 0; i--) {
    const token = before[i]!
    const column = columnOf(token)
    if (column) return column
    if (token.kind === 'keyword' && /^(and|or)$/i.test(token.text) && !isBetween(before.slice(0, i + 1))) return undefined
  }
  return undefined
}

function valuesFor(column: Column | undefined): (readonly [string, string])[] {
  if (!column) return []
  if (column.enum) return column.enum.map((label) => [quoted(label), 'a label'] as const)
  return column.type === 'boolean' ? [['true', ''], ['false', '']] : []
}

function operatorsFor(type: string): (readonly [string, string])[] {
  const always = [['IS NULL', 'has no value'], ['IS NOT NULL', 'has a value']] as const
  if (type === 'boolean') return [['AND', 'and it is true'], ['OR', ''], ['= true', ''], ['= false', ''], ...always]
  if (type.endsWith('[]')) return [['@>', 'has all of'], ['&&', 'has one of'], ['=', 'the same'], ...always]
  if (type === 'jsonb') return [['->>', 'a field as text'], ['@>', 'contains'], ['?', 'has the key'], ['->', 'a field'], ...always]
  const equal = [['=', 'the same'], ['<>', 'another'], ['IN (', 'one of a list']] as const
  const ordered = [['>', 'greater'], ['>=', 'greater or the same'], ['<', 'less'], ['<=', 'less or the same'], ['BETWEEN', 'from … to']] as const
  if (/^(text|character|varchar|name|citext)/.test(type)) return [...equal, ['LIKE', "a pattern: 'a%'"], ['ILIKE', 'a pattern, in any case'], ...always]
  return [...equal, ...ordered, ...always]
}

/** The index that a byte of the text's UTF-8 has: the server counts bytes. */
export const indexOfByte = (text: string, byte: number): number => new TextDecoder().decode(new TextEncoder().encode(text).subarray(0, byte)).length

/** The part of a text that an error at an index is about: the token there, or the end. */
export function placeOf(text: string, index: number): { from: number; to: number } {
  const token = tokens(text).find(({ at, text: part }) => index >= at && index < at + part.length)
  return token ? { from: token.at, to: token.at + token.text.length } : { from: text.length, to: text.length }
}
