import { type Convert, type DecoderFor, decoder, float, shortType } from './values.js'

/** Makes a value of a row from its text. A value that is no text in JSON is given as its JSON. */
export type Parser = (text: string) => unknown

/** Parsers by the short name of a type (`timestamptz`, `int8[]`, an enumeration's name), and by table and column. */
export interface Parsers {
  readonly types?: Readonly<Record<string, Parser>>
  readonly columns?: Readonly<Record<string, Readonly<Record<string, Parser>>>>
}

/** Parsers to choose from: `parsers: { types: { timestamptz: parse.date, int8: parse.bigint } }`. */
export const parse: { date: (text: string) => Date; bigint: (text: string) => bigint; number: (text: string) => number; bytes: (text: string) => Uint8Array } = {
  /** Milliseconds are all that a Date holds: the text has microseconds. */
  date: (text) => new Date(text),
  bigint: BigInt,
  /** Loses digits beyond 2^53. */
  number: Number,
  /** `bytea`, from its form in hexadecimal. */
  bytes: (text) => Uint8Array.from(text.slice(2).match(/../g) ?? [], (byte) => parseInt(byte, 16)),
}

/** Has a client parse values: `createClient(url, { parsers: parsers({ types: { int8: parse.bigint } }) })`. */
export const parsers =
  ({ types = {}, columns: byTable = {} }: Parsers): DecoderFor =>
  (table, columns) => {
    const own = { ...byTable[table.replace(/^public\./, '')], ...byTable[table] }
    return decoder(columns, ({ name, type }) => {
      const parser = own[name]
      const convert = parser ? parsed(parser) : converter(shortType(type), types)
      return (
        convert &&
        ((value) => {
          try {
            return convert(value)
          } catch (error) {
            throw new Error(`the parser of ${table}.${name} failed on ${JSON.stringify(value).slice(0, 80)}: ${String(error)}`)
          }
        })
      )
    })
  }

const parsed =
  (parser: Parser): Convert =>
  (value) =>
    parser(typeof value === 'string' ? value : JSON.stringify(value))

function converter(type: string, types: NonNullable<Parsers['types']>): Convert | undefined {
  const parser = types[type] ?? types[type.replace(/^.*\./, '')]
  if (parser) return parsed(parser)
  if (type.endsWith('[]')) {
    const element = converter(type.slice(0, -2), types)
    // Also arrays of several dimensions are of the type `t[]`.
    const each: Convert = (value) => (Array.isArray(value) ? value.map(each) : value === null ? null : element!(value))
    return element && each
  }
  return type === 'float8' || type === 'float4' ? float : undefined
}
