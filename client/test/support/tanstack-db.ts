import * as newest from '@tanstack/db'
import * as oldest from 'tanstack-db-oldest'
import { vi } from 'vitest'
import { walcastCollectionOptions } from '../../src/tanstack-db/index.js'
import { promises } from './platform.js'
import type { Talk } from './talk.js'

export type Db = typeof newest

/** Both are one API. */
export const CORES: readonly [string, Db][] = [
  ['newest', newest],
  ['oldest', oldest as unknown as Db],
]

/** What joins wait for, and what was promised. */
export const soon = async (): Promise<void> => {
  await promises()
  await vi.advanceTimersByTimeAsync(10)
  await promises()
}

/** Without what a collection adds. */
export const plain = (rows: Iterable<any>): any[] => [...rows].map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith('$'))))

/** A collection of the tasks. */
export const eager = (db: Db, talk: Talk, more: object = {}) =>
  db.createCollection(walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id, ...more }))

/** What a collection says of changes: a list for each commit. */
export const changesOf = (collection: { subscribeChanges(told: (changes: any[]) => void): unknown }): string[][] => {
  const commits: string[][] = []
  collection.subscribeChanges((changes) => {
    // It says nothing when it gets ready.
    if (changes.length > 0) commits.push(changes.map(({ type, key }) => `${type} ${key}`))
  })
  return commits
}
