/** The published tables, as the server has them. */
import { effect, signal } from '@preact/signals'
import { get, poll, source } from './server.js'
import { identifier, tableName } from './text/format.js'

export interface TableColumn {
  readonly name: string
  readonly type: string
  readonly key: boolean
  readonly published: boolean
  readonly enum?: readonly string[]
}

export interface Problem {
  readonly severity: 'error' | 'warning'
  readonly message: string
  readonly fix: string | null
}

export interface TableInfo {
  readonly table: string
  readonly schema: string
  readonly name: string
  readonly key: readonly string[]
  readonly replica_identity: string
  readonly columns: readonly TableColumn[]
  readonly row_filters: readonly string[]
  readonly publications: readonly string[]
  readonly publishes: readonly string[]
  readonly subscriptions: number
  readonly changes_per_second: number
  readonly problems: readonly Problem[]
}

/** Undefined until the server has said. */
export const tables = signal<readonly TableInfo[] | undefined>(undefined)

// Those of another database are not of this one.
effect(() => {
  void source.value
  tables.value = undefined
})

export const pollTables = (): (() => void) =>
  poll(3000, async () => {
    const of = source.peek()
    const { tables: told } = await get<{ tables: readonly TableInfo[] }>('/api/tables')
    if (source.peek() === of && JSON.stringify(told) !== JSON.stringify(tables.value)) tables.value = told
  })

/** A table's name, with its schema or without, as SQL has it. */
const NAME = /^(?:[a-z_]\w*|"(?:[^"]|"")+")(?:\.(?:[a-z_]\w*|"(?:[^"]|"")+"))?$/i

/** Has a table published, and readable. */
export function publish(table: string): string {
  // A link may have any text in the place of a name: that is no SQL to copy.
  const name = NAME.test(table) ? table : identifier(table)
  return `ALTER PUBLICATION walcast ADD TABLE ${name};\nGRANT SELECT ON ${name} TO walcast;`
}
export const PUBLISH = publish('orders')

/** The name that a query asks for it by. */
export const nameOf = ({ schema, name }: Pick<TableInfo, 'schema' | 'name'>): string => tableName(schema, name)
