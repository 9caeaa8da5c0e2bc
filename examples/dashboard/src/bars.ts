import { type Client, type LiveQuery, sql } from '@walcast/client'
import { useEffect, useMemo, useReducer, useState } from 'react'
import type { Orders, Schema } from './schema'

/** The time that a bar stands for, in milliseconds, and the number of bars. */
export const STEP = 10_000
export const BARS = 12

export const STATUSES = ['shipped', 'paid', 'open', 'cancelled'] as const

/** The orders that were placed in a bar's time: how many, and their worth by status, in cents. */
export interface Bar {
  readonly start: number
  readonly orders: number
  readonly cents: Readonly<Record<Orders['status'], number>>
}

export const worth = ({ cents }: Bar): number => STATUSES.reduce((sum, status) => sum + cents[status], 0)

/** The rows behind a bar. The chart and the table ask for the same, which is one subscription. */
export const behind = (start: number) => ({
  table: 'orders' as const,
  where: sql`placed_at >= ${new Date(start)} AND placed_at < ${new Date(start + STEP)}`,
})

export function fold(start: number, rows: readonly Orders[]): Bar {
  const cents = { open: 0, paid: 0, shipped: 0, cancelled: 0 }
  for (const row of rows) cents[row.status] += row.cents
  return { start, orders: rows.length, cents }
}

/** The starts of the bars until now, the oldest first. */
function useStarts(): readonly number[] {
  const [newest, setNewest] = useState(() => Math.floor(Date.now() / STEP))
  useEffect(() => {
    const timer = setTimeout(() => setNewest(Math.floor(Date.now() / STEP)), STEP - (Date.now() % STEP))
    return () => clearTimeout(timer)
  }, [newest])
  return useMemo(() => Array.from({ length: BARS }, (_, i) => (newest - BARS + 1 + i) * STEP), [newest])
}

/** The bars of the last minutes. Each is a live query: it ends when its bar leaves the chart, and the others go on. */
export function useBars(client: Client<Schema>): { bars: readonly Bar[]; isLive: boolean } {
  const starts = useStarts()
  const queries: readonly LiveQuery<Orders, number>[] = useMemo(() => starts.map((start) => client.liveQuery(behind(start))), [client, starts])
  const [changes, changed] = useReducer((count: number) => count + 1, 0)
  useEffect(() => {
    const ends = queries.map((query) => query.onChange(changed))
    return () => ends.forEach((end) => end())
  }, [queries])
  // All queries of a client show the same moment, so their sums agree.
  return useMemo(
    () => ({ bars: starts.map((start, i) => fold(start, queries[i]!.state.rows)), isLive: queries.every(({ state }) => state.status === 'live') }),
    [starts, queries, changes],
  )
}
