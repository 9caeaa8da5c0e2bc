import { type FakePlatform, promises } from './platform.js'
import type { Line, ReferenceServer, RowChange } from './server.js'

/** A row of a table of the reference server, as it is at first. */
export const line = (id: number): Line => ({ id, grp: 'abc'[id % 3]!, amount: id * 10, note: id % 2 ? 'long' : null })

/** Something that happens at random. */
export interface Happening {
  do: string
  n: number
  m: number
}

/** Lets happen what concerns the server, the connection or the time, and nothing for anything else. `fresh` gives the ids of new rows. */
export async function happens({ do: what, n, m }: Happening, server: ReferenceServer, platform: FakePlatform, fresh: () => number): Promise<void> {
  if (what === 'commit') {
    const rows = [...server.rows('left')]
    const changes: RowChange[] = []
    for (let i = 0; i < 1 + (n % 4); i++) {
      const old = rows[(n + i * m) % Math.max(1, rows.length)]
      if (m % 5 === 0 || !old) changes.push({ table: 'left', row: line(fresh()) })
      else if (!changes.some((change) => change.old?.id === old.id)) {
        const row = m % 5 === 1 ? undefined : { ...old, grp: 'abc'[(n + i) % 3]!, amount: (n * 7 + i) % 60, note: [null, 'long', 'other'][m % 3]!, id: m % 7 === 2 ? fresh() : old.id }
        changes.push({ table: 'left', old, ...(row && { row }) })
      }
    }
    server.commit(changes)
  } else if (what === 'step') {
    for (let i = 0; i < 1 + (n % 8) && server.connection?.step((k) => (k === 0 ? 0 : (m + i) % k)); i++) await promises()
  } else if (what === 'cut') server.cut([1006, 1001, 4001][n % 3])
  else if (what === 'prune') server.prune(n % 3)
  else if (what === 'break') server.break(n % 3)
  else if (what === 'pass') platform.pass([10, 500, 6000, 40_000][n % 4]!)
}
