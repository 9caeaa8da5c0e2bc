import type { Collection, SyncMetadataApi } from '@tanstack/db'
import { type Dehydrated, comparePositions } from '../index.js'

/** A result, but for its rows if the collection has these: then it is noted in their commit. */
export interface Note extends Omit<Dehydrated, 'rows'> {
  readonly rows?: Dehydrated['rows']
  /** How many rows the collection has. */
  readonly size?: number
}

/** The name of a note in a collection's metadata. */
export const NOTE = 'walcast:result'

/** Whether this is a note. It may come from anywhere. */
export const isNote = (meta: unknown): meta is Note => Boolean((meta as Note | undefined)?.place?.epoch)

/** The later of two of the same history; otherwise the first. */
export const later = (a: Note, b: Note): Note => (a.place.epoch === b.place.epoch && comparePositions(b.place.position, a.place.position) > 0 ? b : a)

/**
 * The note that holds for all rows of a collection: they may be of a page and of a store. From the older one all changes come
 * that either has missed.
 */
export function noteOf(stored: unknown, given: unknown): Note | undefined {
  const [a, b] = [stored, given].filter((meta) => isNote(meta) && !meta.rows) as [Note?, Note?]
  if (!a || !b) return a
  return a.place.epoch !== b.place.epoch ? undefined : later(a, b) === b ? a : b
}

/** The whole result, if the rows that the collection has are those of the note. */
export function resultOf(note: Note, collection: Collection<any, any>, metadata: SyncMetadataApi<any> | undefined): Dehydrated | undefined {
  const found = [...collection.entries()]
  if (found.length !== note.size || found.some(([, row]) => row.$hasPendingWrites)) return undefined
  const rows = found.map(([key, row]) => metadata?.row.get(key) ?? Object.fromEntries(note.columns.map(({ name }) => [name, row[name]])))
  return { ...note, rows: rows as never }
}
