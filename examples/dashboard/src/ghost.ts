import { type Client, WalcastError, changes } from '@walcast/client'
import { useEffect, useState } from 'react'
import { BARS, STEP } from './bars'
import type { Schema } from './schema'

/** The worth of what was placed in each bar's time some time ago, by the bar's start then. */
export type Ghost = ReadonlyMap<number, number>

/** Replays what the journal has of the time that is compared with, and then follows, since that time goes on, too. */
export function useGhost(client: Client<Schema>, ago: number): Ghost {
  const [ghost, setGhost] = useState<Ghost>(new Map())
  useEffect(() => {
    const stop = new AbortController()
    const oldest = Math.floor((Date.now() - ago) / STEP - BARS) * STEP
    replay(client, new Date(oldest), stop.signal, setGhost).catch(console.error)
    return () => {
      stop.abort()
      setGhost(new Map())
    }
  }, [client, ago])
  return ghost
}

async function replay(client: Client<Schema>, time: Date | undefined, signal: AbortSignal, show: (ghost: Ghost) => void): Promise<void> {
  const totals = new Map<number, number>()
  let first = time?.getTime()
  try {
    for await (const event of changes(client, { table: 'orders' }, { from: time ? { time } : 'earliest', ops: ['insert'], signal })) {
      if (event.type !== 'tx') continue
      // Of the bar in which the journal begins it has only a part.
      first ??= Math.ceil(Date.parse(event.ts) / STEP) * STEP
      for (const change of event.changes) {
        if (change.op !== 'insert') continue
        const start = Math.floor(Date.parse(change.row.placed_at) / STEP) * STEP
        if (start >= first) totals.set(start, (totals.get(start) ?? 0) + change.row.cents)
      }
      show(new Map(totals))
    }
  } catch (error) {
    // The journal is younger than that: show what there is.
    if (time && error instanceof WalcastError && error.code === 'resume_expired') return replay(client, undefined, signal, show)
    throw error
  }
}
