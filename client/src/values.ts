import type { Column } from './protocol.js'

export type Row = Record<string, unknown>
/** A row as it came, and as the application gets it: the same object if nothing in it is parsed. */
export type Decode = (raw: Row) => Row
/** What decodes the rows of a table, made once for a subscription. */
export type DecoderFor = (table: string, columns: readonly Column[]) => Decode
export type Convert = (value: unknown) => unknown

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

/** JSON has no numbers for `NaN` and the infinities, so they come as text; also inside arrays. */
export const float: Convert = (value) => (Array.isArray(value) ? value.map(float) : typeof value === 'string' ? Number(value) : value)

export function decoder(columns: readonly Column[], converterOf: (column: Column) => Convert | undefined): Decode {
  const converters = columns.map((column) => [column.name, converterOf(column)] as const).filter(([, convert]) => convert)
  if (converters.length === 0) return (raw) => raw
  return (raw) => {
    const row = { ...raw }
    for (const [name, convert] of converters) if (raw[name] !== null && raw[name] !== undefined) row[name] = convert!(raw[name])
    return row
  }
}

/** Decodes nothing but floats. */
export const floats: DecoderFor = (_, columns) => decoder(columns, ({ type }) => (/^(double precision|real)/.test(type) ? float : undefined))
