/** Stream: the changes of the database, in their order. */
import { useComputed, useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { address, go } from '../address.js'
import type { Row } from '../grid/rows.js'
import { client, connection, url } from '../server.js'
import { nameOf, pollTables, tables } from '../tables.js'
import { brief, clock, count, counted, shortPosition } from '../text/format.js'
import { asTail } from '../text/snippets.js'
import { announce } from '../ui/announce.js'
import { Command, CopyButton, copy } from '../ui/copy.js'
import { onKey } from '../ui/keys.js'
import { List, type ListHandle, markChosen } from '../ui/list.js'
import { Value } from '../ui/value.js'
import { Feed, OPS, type Op, type StreamChange, type StreamLine, type StreamTransaction, changedColumns, isSameLine, ndjson, sizeOf } from './feed.js'
import { type Followed, Followers } from './follow.js'

const SIGNS: Readonly<Record<Op, string>> = { insert: '+', update: '~', delete: '−', truncate: '∅' }

export function StreamPlace() {
  const { table, ops, xid = '' } = address.value
  const wanted = useMemo(() => new Set<Op>(ops === undefined ? OPS : OPS.filter((op) => ops.split(',').includes(op))), [ops])
  const feed = useMemo(() => new Feed(), [])
  const counts = useSignal({ lines: 0, missed: 0, isPaused: false, total: 0 })
  const chosen = useSignal<StreamLine | undefined>(undefined)
  const list = useRef<ListHandle | undefined>(undefined)
  const lines = useRef<readonly StreamLine[]>([])
  const filter = useRef({ table, ops: wanted, xid })
  filter.current = { table, ops: wanted, xid }
  const live = client.value
  const names = useComputed(() => tables.value?.map(nameOf) ?? [])
  const problems = useComputed(() => JSON.stringify(tables.value?.map((one) => ({ name: nameOf(one), problems: JSON.stringify(one.problems) })) ?? []))

  const show = (): void => {
    const before = lines.current.length
    const first = lines.current[0]
    const next = feed.lines(filter.current)
    const added = first ? next.findIndex(({ entry }) => entry === first.entry) : 0
    lines.current = next
    list.current?.set(next.length, added < 0 ? Math.max(0, next.length - before) : added, chosen.peek() !== undefined)
    if (added < 0 || feed.isMerged) list.current?.redraw()
    feed.isMerged = false
    counts.value = { lines: next.length, missed: feed.missed, isPaused: feed.isPaused, total: feed.total }
  }
  const frame = useRef(0)
  const came = (): void => {
    frame.current ||= requestAnimationFrame(() => {
      frame.current = 0
      if (feed.isPaused) counts.value = { ...counts.value, missed: feed.missed, total: feed.total }
      else show()
    })
  }
  const followers = useMemo(() => new Followers(feed, came), [])
  useEffect(() => {
    const endTables = pollTables()
    return () => {
      endTables()
      followers.end()
      cancelAnimationFrame(frame.current)
    }
  }, [])
  useEffect(() => followers.set(live, JSON.parse(problems.value) as Followed[]), [live, problems.value])
  useEffect(() => {
    show()
    list.current?.redraw()
  }, [table, wanted, xid])

  const pause = (): void => {
    if (feed.isPaused) {
      const { missed } = feed
      feed.resume()
      announce(`shown again, with ${counted(missed, 'change')}`)
    } else {
      feed.pause()
      announce('paused')
    }
    show()
  }
  const choose = (index: number): void => {
    const line = lines.current[index]
    if (!line) return
    chosen.value = line
    list.current?.reveal(index)
    list.current?.redraw()
  }
  const indexOf = (line: StreamLine | undefined): number => lines.current.findIndex((one) => isSameLine(one, line))
  const move = (by: number): void => choose(Math.max(0, Math.min(lines.current.length - 1, indexOf(chosen.value) + by)))
  useEffect(() => onKey({ ' ': pause, j: () => (list.current?.focus(), move(1)), k: () => (list.current?.focus(), move(-1)), '/': () => document.getElementById('xid')?.focus(), Escape: () => (chosen.value = undefined) }), [])
  useEffect(() => list.current?.redraw(), [chosen.value])

  const save = (): void => {
    const link = document.createElement('a')
    link.href = URL.createObjectURL(new Blob([ndjson(lines.current)], { type: 'application/x-ndjson' }))
    link.download = `walcast-${new Date().toISOString().replace(/[:.]/g, '-')}.ndjson`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
  }
  const toggle = (op: Op): void => {
    const next = OPS.filter((one) => (one === op ? !wanted.has(one) : wanted.has(one)))
    go({ ops: next.length === OPS.length ? undefined : next.join(',') || 'none' }, true)
  }
  const { lines: shown, missed, isPaused, total } = counts.value
  const { name } = connection.value
  const state = name === 'open' ? 'live' : name === 'connecting' || name === 'idle' ? 'connecting' : 'offline'
  return (
    <div class="stream" data-alone={chosen.value ? undefined : ''}>
      <div class="filters" role="group" aria-label="Filters">
        <label>
          Table
          <select value={table ?? ''} onChange={(event) => go({ table: event.currentTarget.value || undefined, where: undefined, order: undefined }, true)}>
            <option value="">all</option>
            {table !== undefined && !names.value.includes(table) && <option>{table}</option>}
            {names.value.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <span class="chips" role="group" aria-label="Operations">
          {OPS.map((op) => (
            <button key={op} type="button" aria-pressed={wanted.has(op)} onClick={() => toggle(op)}>
              {op}
            </button>
          ))}
        </span>
        <label>
          xid
          <input id="xid" type="search" inputMode="numeric" placeholder="any" value={xid} onInput={(event) => go({ xid: event.currentTarget.value.trim() || undefined }, true)} />
        </label>
      </div>
      <section class="result" aria-label="Changes">
        <div class="strip">
          <span class="state" data-state={state}>
            {state === 'offline' ? 'not connected' : state}
          </span>
          <span class="figure">
            <b>{count(total)}</b> {total === 1 ? 'change' : 'changes'} so far
          </span>
          {isPaused && <span class="figure paused">{counted(missed, 'change')} while paused</span>}
          <span class="grow" />
          <button type="button" aria-pressed={isPaused} title="Stops the view, not the stream (Space)" onClick={pause}>
            {isPaused ? 'Resume' : 'Pause'}
          </button>
          <button type="button" disabled={shown === 0} title="The changes that are shown, a line of JSON each" onClick={save}>
            Save as NDJSON
          </button>
        </div>
        {followers.failures.value.map((text) => (
          <p key={text} class="notice" data-amber="">
            {text}
          </p>
        ))}
        <div class="list-place">
          <List label="Changes" handle={list} make={makeLine} fill={(line, index) => fillLine(line, lines.current[index]!, isSameLine(lines.current[index], chosen.value))} open={choose} move={move} />
          {shown === 0 && <Nothing total={total} xid={xid} table={table} />}
        </div>
      </section>
      {chosen.value && <Details line={chosen.value} close={() => (chosen.value = undefined)} />}
    </div>
  )
}

function Nothing({ total, xid, table }: { total: number; xid: string; table: string | undefined }) {
  if (table !== undefined && tables.value?.every((one) => nameOf(one) !== table)) {
    return (
      <div class="empty">
        <p>
          <b>{table} is not published.</b> Choose another table.
        </p>
      </div>
    )
  }
  return (
    <div class="empty">
      {total > 0 ? (
        <p>
          {counted(total, 'change')} came, and none is as the filters want it{xid && <>: transaction {xid} changed no published row, or came before this page was opened</>}.
        </p>
      ) : (
        <div class="stack">
          <p>
            <b>No change yet.</b> Every change of a published table from now on is listed here. To read earlier ones:
          </p>
          <Command text={`${asTail({ table: table ?? (tables.value?.[0] ? nameOf(tables.value[0]) : 'orders'), where: '' }, url.value)} --from earliest`} />
        </div>
      )}
    </div>
  )
}

function makeLine(): HTMLElement {
  const line = document.createElement('div')
  line.setAttribute('role', 'option')
  for (const name of ['sign', 'time', 'table', 'what', 'position']) {
    const part = document.createElement('span')
    part.className = name
    line.append(part)
  }
  return line
}

function fillLine(line: HTMLElement, { entry, change, more }: StreamLine, isChosen: boolean): void {
  const isGap = !('changes' in entry)
  line.className = `item${isGap ? ' gap' : change || more ? '' : ' head'}`
  line.dataset.op = change?.op ?? ''
  markChosen(line, isChosen)
  const texts = isGap
    ? ['!', '', '', entry.text, '']
    : change
      ? [SIGNS[change.op], '', change.table, about(change), '']
      : more
        ? ['', '', '', `and ${count(more)} more, which this page does not keep`, '']
        : ['', clock(entry.at, true), `xid ${entry.xid}`, counted(sizeOf(entry), 'change'), shortPosition(entry.position)]
  texts.forEach((text, i) => {
    const part = line.children[i]!
    if (part.textContent !== text) part.textContent = text
    ;(part as HTMLElement).hidden = text === '' && i > 0
  })
  if (change) line.children[0]!.setAttribute('aria-label', change.op)
}

/** A change on one line. */
function about(change: StreamChange): string {
  const { op, row, old, key, isOversize } = change
  if (op === 'truncate') return 'the table was emptied'
  if (isOversize) return `${of(key)} is larger than the server sends`
  if (op === 'delete') return of(old ?? key)
  const changed = changedColumns(change)
  if (op === 'update' && row && old && changed.length > 0) return `${first(row)}  ·  ${changed.map((name) => `${name}: ${said(old[name])} → ${said(row[name])}`).join('  ')}`
  return of(row)
}

const said = (value: unknown): string => (value === null ? 'null' : value === '' ? "''" : brief(value, 40))
const of = (row: Row | undefined): string => (row ? Object.entries(row).slice(0, 12).map(([name, value]) => `${name}: ${said(value)}`).join('  ') : '')
/** The column that stands first is the key in nearly all tables. */
const first = (row: Row): string => {
  const [name, value] = Object.entries(row)[0] ?? ['', '']
  return `${name}: ${said(value)}`
}

function Details({ line: { entry, change }, close }: { line: StreamLine; close: () => void }) {
  if (!('changes' in entry)) return null
  const { xid, position, at, ts } = entry as StreamTransaction
  const row = change?.row ?? change?.old ?? change?.key
  const changed = change ? new Set(changedColumns(change)) : new Set<string>()
  const names = Object.keys({ ...change?.row, ...change?.old, ...change?.key })
  return (
    <aside class="side" aria-label="The chosen change">
      <section class="details">
        <header>
          <h2>{change ? `${change.op} of ${change.table}` : `Transaction ${xid}`}</h2>
          {row && <CopyButton label="Copy JSON" text={() => JSON.stringify(change!.row ?? row, null, 2)} />}
          <button type="button" class="small" aria-label="Close" title="Close (Escape)" onClick={close}>
            ✕
          </button>
        </header>
        <p class="soft">
          Transaction{' '}
          <button type="button" class="plain mono" title="Show this transaction alone" onClick={() => go({ xid: String(xid) }, true)}>
            {xid}
          </button>
          , committed <span title={ts}>{clock(at, true)}</span>, at{' '}
          <button type="button" class="plain mono" title="Copy the position" onClick={() => copy(position)}>
            {position}
          </button>
          {change && `, change ${change.seq}`}
        </p>
        {!change && <p>{counted(sizeOf(entry as StreamTransaction), 'change')} of published tables. Choose one to see it in full.</p>}
        {change && names.length > 0 && (
          <dl class="columns">
            {names.map((name) => (
              <div key={name} data-changed={changed.has(name) ? '' : undefined}>
                <dt>{name}</dt>
                <dd>
                  {changed.has(name) && (
                    <div class="old">
                      <Value value={change.old![name]} most={2000} />
                    </div>
                  )}
                  <div class={changed.has(name) ? 'new' : undefined}>
                    <Value value={row![name]} most={2000} />
                  </div>
                </dd>
              </div>
            ))}
          </dl>
        )}
        {change?.op === 'update' && !change.old && !change.isOversize && <p class="soft">The log does not hold the row before. With REPLICA IDENTITY FULL it does.</p>}
      </section>
    </aside>
  )
}
