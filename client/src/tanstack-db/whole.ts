import type { LoadSubsetOptions } from '@tanstack/db'
import type { Dehydrated } from '../index.js'
import { NOTE, type Note, noteOf, resultOf } from './note.js'
import { type Key, type Rows, type Source, type Subset, type Sync, rowsOf } from './rows.js'

/** One run of a collection's sync, as its options see it. */
export interface Run extends Pick<Rows<any, any, any>, 'note' | 'position' | 'status' | 'end'> {
  loadSubset?(options: LoadSubsetOptions): true | Promise<void>
  unloadSubset?(options: LoadSubsetOptions): void
  /** The whole result, for when the collection begins again. */
  result?(): Note | undefined
}

/** Begins one run of a collection that is a live query. */
export function whole<Row extends object, K extends Key>(source: Source<Row, K>, sync: Sync<Row, K>, stored: Note | undefined): Run {
  const { client, query, getKey } = source
  const { collection, metadata, markReady, markError } = sync
  let subset: Subset<Row, K> | undefined
  let failure: unknown
  let isOver = false

  const rows: Rows<Row, K, Subset<Row, K>> = rowsOf(source, sync, {
    filled({ isWritten }) {
      if (!isWritten) markReady()
    },
    failed(error) {
      if (error !== failure) markError((failure = error))
    },
    note() {
      if (!subset?.shown) return undefined
      const { identity, key, columns } = subset.live.kept
      return { query: identity, key, columns, place: subset.shown, size: rows.written.size }
    },
    given: stored,
  })
  const begin = (initial: Dehydrated | undefined): Subset<Row, K> => (subset = rows.add(query, {}, initial))

  const given = noteOf(metadata?.collection.get(NOTE), stored)
  if (given?.query === client.liveQuery(query as never).kept.identity) {
    // What stores its rows gives it these before it is ready.
    markReady()
    collection.onFirstReady(() => {
      if (isOver) return
      const result = resultOf(given, collection, metadata)
      const { live, told } = begin(result)
      // They need not be written.
      if (result && live.kept.shown === result.place) for (const row of told.rows) rows.written.set(getKey(row), row)
    })
  } else begin(stored?.rows && (stored as Dehydrated))

  return {
    ...rows,
    result: () => (subset ? subset.live.dehydrate() : stored),
    end: () => {
      isOver = true
      rows.end()
    },
  }
}
