/** Results in IndexedDB: a page that comes again shows them at once, and gets what changed since. */
import type { Dehydrated, Kept, Persistence, Place } from '../index.js'
import { type Store, keep } from './keep.js'

export { type Store, keep } from './keep.js'

type Row = Dehydrated['rows'][number]

export interface IndexedDBOptions {
  /** The name of the database, `walcast`. */
  readonly name?: string
  /** Whose rows they are, such as the user's id. What is stored of others is thrown away. */
  readonly scope?: string
  /** Rows of all results together, 50,000. A result that is larger is not stored; older ones make room. */
  readonly maxRows?: number
  /** Milliseconds after which a result that did not change is thrown away, a week. */
  readonly maxAge?: number
}

/** A result as it is stored, without its rows. */
interface Stored extends Omit<Dehydrated, 'rows'> {
  readonly id: string
  readonly rows: number
  /** When it was written, and which writing that was. */
  readonly at: number
  readonly stamp: number
}

/** A result that this page has. */
interface Own {
  result: Kept
  place: () => Place | undefined
  /** Where it stands with `changes`. */
  shown: Place | undefined
  /** What became of rows since they were written; undefined: all are written. */
  changes: Map<string, Row | undefined> | undefined
  /** The writing that `changes` come after. */
  stamp: number
  isChanged: boolean
  /** When this page wrote it last: for a while then no other one does. */
  writtenAt: number
}

/** How often a page writes. */
const WRITE_MS = 1000
/** How often it looks how far results are that do not change. */
const REFRESH_MS = 4000
/** A browser that does not answer is not waited for. */
const LOAD_MS = 1000
/** A result that another page has written is left to it for so long. */
const OTHERS_MS = 10_000
const WEEK_MS = 7 * 24 * 3600 * 1000

/**
 * Keeps results in IndexedDB: rows as they came, so that parsers may change, and their place, in one transaction. They are
 * written at most once a second, and when the page is left. Where there is no IndexedDB, or it fails, nothing is kept.
 */
export function indexedDB({ name = 'walcast', scope = '', maxRows = 50_000, maxAge = WEEK_MS }: IndexedDBOptions = {}): Persistence {
  const own = new Map<string, Own>()
  const loaded = new Map<string, number>()
  let db: IDBDatabase | undefined
  let opening: Promise<unknown> | undefined
  let isOff = false
  let timer: ReturnType<typeof setTimeout> | undefined
  let lastAt = -Infinity
  let refreshing: ReturnType<typeof setInterval> | undefined

  /** Both stores, in one transaction. */
  const stores = (mode: IDBTransactionMode = 'readwrite'): { results: IDBObjectStore; rows: IDBObjectStore; done: Promise<unknown>; transaction: IDBTransaction } => {
    const transaction = db!.transaction(['results', 'rows'], mode)
    const done = new Promise<unknown>((resolve, reject) => {
      transaction.oncomplete = resolve
      transaction.onabort = () => reject(transaction.error)
    })
    return { results: transaction.objectStore('results'), rows: transaction.objectStore('rows'), done, transaction }
  }

  const open = (): Promise<unknown> =>
    (opening ??= new Promise((resolve, reject) => {
      const request = globalThis.indexedDB.open(name, 1)
      request.onupgradeneeded = () => {
        request.result.createObjectStore('results', { keyPath: 'id' })
        request.result.createObjectStore('rows')
      }
      request.onerror = () => reject(request.error)
      request.onsuccess = () => {
        db = request.result
        db.onversionchange = db.onclose = off
        resolve(tidy())
      }
    }))

  /** It goes on without. */
  const off = (): void => {
    isOff = true
    own.clear()
    db?.close()
    db = undefined
  }

  /** Throws away what is of others, or old. */
  const tidy = (): Promise<unknown> => {
    const { results, rows, done } = stores()
    const all: IDBRequest<Stored[]> = results.getAll()
    all.onsuccess = () => {
      for (const { id, at } of all.result) {
        if (id.startsWith(`${scope}\n`) && Date.now() - at < maxAge) continue
        results.delete(id)
        rows.delete(rowsOf(id))
      }
    }
    return done
  }

  const put = (results: IDBObjectStore, rows: IDBObjectStore, id: string, mine: Own, isWhole: boolean, place: Place): Stored => {
    const { identity: query, key, columns, entries } = mine.result
    if (isWhole) {
      rows.delete(rowsOf(id))
      for (const { key, raw } of entries) rows.put(raw, [id, JSON.stringify(key)])
    } else {
      for (const [key, row] of mine.changes!) {
        if (row) rows.put(row, [id, key])
        else rows.delete([id, key])
      }
    }
    const at = Date.now()
    const stored: Stored = { id, query, key, columns, rows: entries.length, place, at, stamp: Math.random() }
    results.put(stored)
    Object.assign(mine, { changes: new Map(), stamp: stored.stamp, shown: place, isChanged: false, writtenAt: at })
    return stored
  }

  const dueOf = (): [string, Own][] =>
    [...own].filter(([, { isChanged, place, shown }]) => isChanged || (place() && place()!.position !== shown?.position))

  /** The page is left: what is not asked for at once is not done any more, so nothing can be read before. */
  const leave = (): void => {
    const due = dueOf().filter(([, { changes, shown, writtenAt, result }]) => changes && shown && result.shown && Date.now() - writtenAt < OTHERS_MS && result.entries.length <= maxRows)
    if (!db || due.length === 0) return
    const { results, rows, done, transaction } = stores()
    for (const [id, mine] of due) put(results, rows, id, mine, false, mine.place() ?? mine.shown!)
    transaction.commit?.()
    done.catch(off)
  }

  const write = (): void => {
    clearTimeout(timer)
    timer = undefined
    lastAt = Date.now()
    if (!db) return clearInterval(refreshing)
    const due = dueOf()
    if (due.length === 0) return
    const { results, rows, done } = stores()
    const all: IDBRequest<Stored[]> = results.getAll()
    all.onsuccess = () => {
      const known = new Map(all.result.map((stored) => [stored.id, stored]))
      const drop = (id: string): void => {
        if (!known.delete(id)) return
        results.delete(id)
        rows.delete(rowsOf(id))
      }
      /** True if there is room for so many rows, after older results have gone. */
      const makeRoom = (id: string, count: number): boolean => {
        const others = [...known.values()].filter((stored) => stored.id !== id).sort((a, b) => a.at - b.at)
        let over = count - maxRows
        for (const other of others) over += other.rows
        for (const other of others) {
          if (over <= 0 || own.has(other.id)) continue
          drop(other.id)
          over -= other.rows
        }
        return over <= 0
      }
      for (const [id, mine] of due) {
        const { result, changes } = mine
        const { entries } = result
        const stored = known.get(id)
        const isWhole = !changes || stored?.stamp !== mine.stamp
        const shown = isWhole ? result.shown : mine.shown
        mine.isChanged = false
        if (!shown || !makeRoom(id, entries.length)) {
          drop(id)
          mine.changes = undefined
        } else if (stored && stored.stamp !== mine.stamp && Date.now() - stored.at < OTHERS_MS) {
          // What this page knows does not fit to what another one has written.
          mine.changes = undefined
        } else {
          const place = mine.place() ?? shown
          if (isWhole || changes.size > 0 || stored.place.position !== place.position || stored.place.epoch !== place.epoch) known.set(id, put(results, rows, id, mine, isWhole, place))
        }
      }
    }
    done.catch(off)
  }

  globalThis.addEventListener?.('pagehide', leave)

  const store: Store = {
    async load(query) {
      if (isOff) return undefined
      const id = `${scope}\n${query}`
      const read = async (): Promise<Dehydrated | undefined> => {
        await open()
        const { results, rows, done } = stores('readonly')
        const result: IDBRequest<Stored | undefined> = results.get(id)
        const all: IDBRequest<Row[]> = rows.getAll(rowsOf(id))
        await done
        const found = result.result
        if (!found) return undefined
        loaded.set(id, found.stamp)
        return { ...found, rows: all.result }
      }
      return Promise.race([read(), new Promise<undefined>((resolve) => setTimeout(resolve, LOAD_MS))]).catch(() => void off())
    },

    save(query, result, steps, place) {
      if (isOff) return
      const id = `${scope}\n${query}`
      const before = own.get(id) ?? { changes: new Map(), stamp: loaded.get(id) ?? 0, writtenAt: -Infinity }
      const mine: Own = Object.assign(before, { result, place, shown: result.shown, isChanged: true })
      own.set(id, mine)
      if (!steps) mine.changes = undefined
      for (const { key, after } of steps?.flat() ?? []) mine.changes?.set(JSON.stringify(key), after?.raw)
      open().then(() => {
        timer ??= setTimeout(write, Math.max(0, lastAt + WRITE_MS - Date.now()))
        refreshing ??= setInterval(write, REFRESH_MS)
      }, off)
    },

    async clear() {
      own.clear()
      loaded.clear()
      if (isOff) return
      await open()
      const { results, rows, done } = stores()
      results.clear()
      rows.clear()
      await done
    },
  }
  return keep(store)
}

const rowsOf = (id: string): IDBKeyRange => IDBKeyRange.bound([id], [id, []])
