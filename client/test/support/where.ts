/** Predicates as the package writes them, evaluated for the reference server: a small part of SQL, with its three values. */
export type Truth = boolean | null
export type Match = (row: Readonly<Record<string, any>>, params: readonly any[]) => Truth

const TOKEN = /\s*("(?:[^"]|"")+"|\$\d+|<=|>=|[=<>()]|IS NULL|[A-Z]+|[a-z_]+)/y

const pattern = (text: string, flags: string): RegExp =>
  new RegExp(`^${text.replace(/\\(.)|([%_])|([^\\%_])/gs, (_, escaped, wild, plain) => (wild ? (wild === '%' ? '.*' : '.') : (escaped ?? plain).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')))}$`, flags)

const COMPARE: Record<string, (a: any, b: any) => boolean> = {
  '=': (a, b) => a === b,
  '<': (a, b) => a < b,
  '>': (a, b) => a > b,
  '<=': (a, b) => a <= b,
  '>=': (a, b) => a >= b,
  LIKE: (a, b) => pattern(b, 's').test(a),
  ILIKE: (a, b) => pattern(b, 'is').test(a),
}

/** Throws with the place in the text if it is no predicate, or names a column that there is not. */
export function parseWhere(text: string, columns: readonly string[]): Match {
  let at = 0
  const fail = (where: number): never => {
    throw Object.assign(new Error(`no predicate at ${where}: ${text}`), { offset: where })
  }
  const peek = (): string | undefined => {
    TOKEN.lastIndex = at
    return TOKEN.exec(text)?.[1]
  }
  const next = (): string => {
    const token = peek() ?? fail(at)
    at = TOKEN.lastIndex
    return token
  }
  const take = (token: string): boolean => {
    if (peek() !== token) return false
    next()
    return true
  }
  const expect = (token: string): void => void (take(token) || fail(at))
  const operand = (): ((row: any, params: readonly any[]) => any) => {
    const start = at
    const token = next()
    if (token.startsWith('$')) return (_, params) => params[Number(token.slice(1)) - 1]
    const name = token.startsWith('"') ? token.slice(1, -1).replaceAll('""', '"') : token
    return columns.includes(name) ? (row) => row[name] : fail(start + (text[start] === ' ' ? 1 : 0))
  }
  const condition = (): Match => {
    if (take('NOT')) {
      const inner = condition()
      return (row, params) => {
        const truth = inner(row, params)
        return truth === null ? null : !truth
      }
    }
    if (take('(')) {
      const inner = any()
      expect(')')
      return inner
    }
    const left = operand()
    if (take('IS NULL')) return (row, params) => left(row, params) === null
    const name = peek()
    const compare = name === undefined ? undefined : COMPARE[name]
    if (!compare) return (row, params) => left(row, params)
    next()
    const isAny = take('ANY')
    if (isAny) expect('(')
    const right = operand()
    if (isAny) expect(')')
    return (row, params) => {
      const [a, b] = [left(row, params), right(row, params)]
      if (a === null || b === null) return null
      return isAny ? b.some((item: unknown) => compare(a, item)) : compare(a, b)
    }
  }
  const joined = (word: string, decides: boolean, part: () => Match): (() => Match) => () => {
    const parts = [part()]
    while (take(word)) parts.push(part())
    return (row, params) => {
      const truths = parts.map((match) => match(row, params))
      return truths.includes(decides) ? decides : truths.includes(null) ? null : !decides
    }
  }
  const any: () => Match = joined('OR', true, joined('AND', false, condition))
  const match = any()
  if (at < text.trimEnd().length) fail(at)
  return match
}
