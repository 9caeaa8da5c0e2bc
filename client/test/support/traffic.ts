import { type Line, ReferenceServer, type RowChange } from './server.js'

const row = (id: number, n: number): Line => ({ id, grp: 'ab'[n % 2]!, amount: n, note: n % 3 ? 'long' : null })

/** Rows in an order that does not depend on theirs, to be compared. */
export const sorted = (rows: readonly unknown[]): string[] => rows.map((row) => JSON.stringify(Object.entries(row as object).sort())).sort()

/** A reference server with a table `left`, whose rows come, change, change their keys and go, and one without a key. */
export class Traffic {
  readonly server = new ReferenceServer({ left: [row(1, 1), row(2, 2)], log: [] })
  #next = 10

  /** Commits a transaction on both tables, chosen by a number. */
  commit(n: number): void {
    const rows = this.server.rows('left')
    const old = rows[n % Math.max(1, rows.length)]
    const logged = this.server.rows('log')[0]
    const changes: RowChange[] = [n % 4 === 0 || !old ? { table: 'left', row: row(this.#next++, n) } : { table: 'left', old, ...(n % 4 > 1 && { row: row(n % 4 === 2 ? old.id : this.#next++, n) }) }]
    changes.push(n % 3 === 0 && logged ? { table: 'log', old: logged } : { table: 'log', row: row(n % 2, n % 2) })
    this.server.commit(changes)
  }
}
