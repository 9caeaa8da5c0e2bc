import { readFileSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Changes } from '../src/changes.js'
import { isBusy } from '../src/error.js'
import { Fold } from '../src/fold.js'
import { sort } from '../src/sort.js'
import type { Frame, Hello } from '../src/protocol.js'
import { type Feed, type Session, makeSession } from '../src/session.js'
import { type Row, floats } from '../src/values.js'

/** Conversations that the Rust tests recorded, byte for byte, from a real server: tests/data/transcripts/README.md. */
const FOLDER = new URL('../../tests/data/transcripts/', import.meta.url)
/** Those of today, and of each release: servers of all of them may be met. */
const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.txt'))

/** What docs/consistency.md says to do, without anything else. */
class Naive {
  rows = new Map<string, Row>()
  key: string[] = []
  #count = 0
  columns = ''

  say(frame: any, id: string): void {
    if (frame.type === 'subscribed') {
      this.key = frame.key
      this.columns = frame.columns.map(({ name }: { name: string }) => name).sort().join()
    }
    for (const row of frame.rows ?? []) this.#put(row)
    for (const change of frame.changes ?? []) if (change.id === id) this.#apply(change)
  }

  #keyOf(row: Row): string {
    return JSON.stringify(this.key.map((name) => row[name]))
  }

  #put(row: Row): void {
    this.rows.set(this.key.length > 0 ? this.#keyOf(row) : String(this.#count++), row)
  }

  #apply({ op, key, new_key, row, old, unchanged = [], as_before }: any): void {
    if (op === 'truncate') return this.rows.clear()
    if (this.key.length === 0) {
      const text = JSON.stringify(old)
      const found = op !== 'insert' && [...this.rows].find(([, row]) => JSON.stringify(row) === text)
      if (found) this.rows.delete(found[0])
      if (op !== 'delete') this.#put(row)
      return
    }
    const name = this.#keyOf(key ?? row)
    const before = this.rows.get(name)
    if (as_before && !before) return
    this.rows.delete(name)
    if (op === 'delete') return
    const now = { ...(row ?? new_key ?? key) }
    for (const name of unchanged) if (before && name in before) now[name] = before[name]
    this.#put(now)
  }
}

interface Played {
  feed: Feed
  naive: Naive
  ended?: string
}

function play(name: string): { played: Played[]; frames: number } {
  const played: Played[] = []
  let frames = 0
  let sent: any[] = []
  let session!: Session
  let names = new Map<string, { id: string; subscription: Played }>()
  let hello: Hello | undefined
  const lines = readFileSync(new URL(name, FOLDER), 'utf8').split('\n')
  lines.forEach((line, at) => {
    if (line === 'connect' || line.startsWith('connect ')) {
      names = new Map()
      sent = []
      hello = undefined
      session = makeSession({ send: (message) => sent.push(message), changed: () => {}, advanced: () => {}, now: () => 0, random: () => 0.5 })
    }
    if (line.startsWith('> ')) {
      let message: any
      try {
        message = JSON.parse(line.slice(2))
      } catch {
        return // Not what a client would say.
      }
      const { type, id, snapshot, from, epoch, now, ...fields } = message
      // What comes before the greeting, twice, or is no request is the transcripts' alone.
      if (type !== 'subscribe' || !hello || typeof id !== 'string' || names.has(id)) return
      let feed: Feed
      if (fields.messages !== undefined) feed = new Changes({ decoderFor: () => (raw: Row) => raw } as never, fields, {})
      else {
        const fold = new Fold(String(at), fields, { decoderFor: floats, warn: () => {}, sort })
        const answer = lines.slice(at).find((other) => other.startsWith('< {"type":"subscribed"') && JSON.parse(other.slice(2)).id === id)
        // One that begins in the middle: nothing is held there, which is what these tests compare with, too.
        if (!snapshot && answer) {
          const { key, columns } = JSON.parse(answer.slice(2))
          fold.load({ query: String(at), key, columns, rows: [], place: { position: from ?? hello.position, epoch: hello.epoch } })
        }
        feed = fold
      }
      const subscription: Played = { feed, naive: new Naive() }
      session.add(feed)
      names.set(id, { id: sent.at(-1).id, subscription })
      played.push(subscription)
    }
    if (!line.startsWith('< ')) return
    frames++
    const frame = JSON.parse(line.slice(2)) as any
    if (frame.type === 'hello') {
      hello = frame
      return session.receive(frame)
    }
    if (!hello) return
    const own = frame.id === undefined ? undefined : names.get(frame.id)
    if (frame.id !== undefined && !own) return
    const theirs = (id: string): string => names.get(id)?.id ?? id
    const translated = { ...frame, ...(own && { id: own.id }), ...(frame.changes && { changes: frame.changes.map((change: any) => ({ ...change, id: theirs(change.id) })) }) }
    for (const [id, { subscription }] of names) if (frame.id === undefined || frame.id === id) subscription.naive.say(frame, id)
    session.receive(translated as Frame)
    if (own && (frame.type === 'error' || frame.type === 'unsubscribed')) {
      own.subscription.ended = frame.type === 'error' ? frame.code : 'unsubscribed'
      names.delete(frame.id)
    }
  })
  return { played, frames }
}

const text = (rows: Iterable<Row>): string[] => [...rows].map((row) => JSON.stringify(Object.entries(row).sort())).sort()

test.each(files)('%s', (name) => {
  const { played, frames } = play(name)
  expect(frames).toBeGreaterThan(name.includes('too_large.txt') ? -1 : 0)
  for (const { feed, naive, ended } of played) {
    if (!(feed instanceof Fold)) continue
    if (ended === undefined) {
      // What a transcript ends in the middle of is not seen, and one whose rows are of another shape begins anew.
      const shapes = new Set([...naive.rows.values()].map((row) => Object.keys(row).sort().join()))
      const begins = feed.place === undefined && feed.status !== 'error'
      expect(feed.error).toBeUndefined()
      if (begins) expect([...shapes].some((shape) => shape !== naive.columns) || feed.status !== 'live').toBe(true)
      else if (feed.status === 'live') expect(text(feed.entries.map(({ raw }) => raw))).toEqual(text(naive.rows.values()))
    } else if (ended !== 'unsubscribed' && feed.error) expect(feed.error.code).toBe(ended)
    else if (ended !== 'unsubscribed') expect(['resume_expired', 'resume_invalid', 'schema_changed', 'forbidden'].includes(ended) || isBusy(ended, {})).toBe(true)
  }
})

test('the transcripts hold something for every subscription to be compared with', () => {
  let compared = 0
  const restarts: string[] = []
  for (const name of files) {
    for (const { feed, ended } of play(name).played) {
      if (!(feed instanceof Fold) || ended !== undefined) continue
      if (feed.status === 'live') compared++
      else if (feed.place === undefined) restarts.push(name)
    }
  }
  expect(compared).toBeGreaterThan(40)
  // Only where rows came that had other columns than were said.
  expect(restarts.length, restarts.join()).toBeLessThan(8)
})
