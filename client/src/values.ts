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

/** How `format_type` spells types whose short names are others. */
const SHORT: Readonly<Record<string, string>> = {
  bigint: 'int8',
  integer: 'int4',
  smallint: 'int2',
  'double precision': 'float8',
  real: 'float4',
  boolean: 'bool',
  'character varying': 'varchar',
  character: 'bpchar',
  'timestamp with time zone': 'timestamptz',
  'timestamp without time zone': 'timestamp',
  'time with time zone': 'timetz',
  'time without time zone': 'time',
  'bit varying': 'varbit',
}

/** The short name of a type: `timestamptz` for `timestamp(3) with time zone`. */
export function shortType(type: string): string {
  const bare = type.replace(/\([^)]*\)/, '')
  return bare.endsWith('[]') ? `${shortType(bare.slice(0, -2))}[]` : (SHORT[bare] ?? bare)
}

type Convert = (value: unknown) => unknown

/** JSON has no numbers for `NaN` and the infinities, so they come as text. */
const float: Convert = (value) => (typeof value === 'string' ? Number(value) : value)

function converter(type: string, types: Parsers['types'] = {}): Convert | undefined {
  const parser = types[type] ?? types[type.replace(/^.*\./, '')]
  if (parser) return (value) => parser(typeof value === 'string' ? value : JSON.stringify(value))
  if (type.endsWith('[]')) {
    const element = converter(type.slice(0, -2), types)
    // Also arrays of several dimensions are of the type `t[]`.
    const each: Convert = (value) => (Array.isArray(value) ? value.map(each) : value === null ? null : element!(value))
    return element && each
  }
  return type === 'float8' || type === 'float4' ? float : undefined
}

/** A row as it came, and as the application gets it: the same object if nothing in it is parsed. */
export type Decode = (raw: Row) => Row
export type Row = Record<string, unknown>

/** The parsers of a table's columns, made once for a subscription. */
export function decoder(table: string, columns: readonly { name: string; type: string }[], parsers: Parsers = {}): Decode {
  const own = { ...parsers.columns?.[table.replace(/^public\./, '')], ...parsers.columns?.[table] }
  const converters: [string, Convert][] = []
  for (const { name, type } of columns) {
    const parser = own[name]
    const convert = parser ? converter('', { '': parser }) : converter(shortType(type), parsers.types)
    if (convert) converters.push([name, convert])
  }
  if (converters.length === 0) return (raw) => raw
  return (raw) => {
    const row = { ...raw }
    for (const [name, convert] of converters) {
      const value = raw[name]
      if (value === null || value === undefined) continue
      try {
        row[name] = convert(value)
      } catch (error) {
        throw new Error(`the parser of ${table}.${name} failed on ${JSON.stringify(value).slice(0, 80)}: ${String(error)}`)
      }
    }
    return row
  }
}
