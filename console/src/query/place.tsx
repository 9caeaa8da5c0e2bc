/** Query: which rows match now, what each transaction did to them, and how an application asks for the same. */
import { useComputed, useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useMemo } from 'preact/hooks'
import { address, go } from '../address.js'
import { Grid } from '../grid/grid.js'
import { client, connection, problems, url } from '../server.js'
import { PUBLISH, type TableInfo, nameOf, pollTables, publish, tables } from '../tables.js'
import { count, counted, sentence, shortPosition, whole } from '../text/format.js'
import { type Asked, asClient, asHook, asTail } from '../text/snippets.js'
import type { Order } from '../text/url.js'
import { announce } from '../ui/announce.js'
import { Command, copy } from '../ui/copy.js'
import { onKey } from '../ui/keys.js'
import { Menu } from '../ui/menu.js'
import { TableChoice } from '../ui/table-choice.js'
import { Bar } from './bar.js'
import { type Asking, LiveView } from './live.js'
import { type Chosen, Side } from './side.js'

const BY_KEY: Order = { by: 'key', desc: false }
const STATUS = { connecting: 'connecting', snapshot: 'reading rows', 'catching-up': 'catching up', live: 'live', offline: 'not connected', error: 'ended' } as const

export function QueryPlace() {
  const { table: asked, where = '', order = BY_KEY } = address.value
  const known = tables.value
  // A link may name a table that is not there: the server says why.
  const table = asked ?? (known?.[0] && nameOf(known[0]))
  const infoOf = (table: string | undefined): TableInfo | undefined => known?.find((one) => nameOf(one) === table || one.table === table)
  const info = infoOf(table)
  const text = useSignal(where)
  const chosen = useSignal<Chosen>(undefined)
  const turn = useSignal(0)
  const counts = useSignal({ rows: 0, missed: 0, isPaused: false })

  const { grid, view, attach } = useMemo(() => {
    const grid: Grid = new Grid({
      label: 'Rows',
      open: ({ id }) => (chosen.value = { row: id }),
      sort: (order) => go({ order }, true),
      changed: () => {
        const { count: rows, missed, isPaused } = grid.rows
        const { value } = counts
        if (value.rows !== rows || value.missed !== missed || value.isPaused !== isPaused) counts.value = { rows, missed, isPaused }
      },
    })
    // Its element is made anew whenever there are tables again.
    const attach = (element: HTMLElement | null): void => {
      if (element) element.append(grid.element)
    }
    return { grid, view: new LiveView(grid), attach }
  }, [])

  useEffect(() => {
    let frame = 0
    view.took = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0
        view.flush()
        turn.value++
      })
    }
    return () => {
      view.end()
      grid.end()
      cancelAnimationFrame(frame)
    }
  }, [])

  useLayoutEffect(pollTables, [])
  useLayoutEffect(() => grid.sortBy(order), [JSON.stringify(order)])
  const live = client.value
  // Before the page is drawn, as are the tables: both take a while to be answered.
  useLayoutEffect(() => {
    if (live && table !== undefined) view.ask(live, { table, where })
  }, [live, table, where])
  useLayoutEffect(() => () => view.clear(), [live])
  const isMissing = known !== undefined && info === undefined && table !== undefined
  useEffect(() => {
    // It has been published since it was refused.
    if (!isMissing && live && table !== undefined && view.refused.value) view.ask(live, { table, where })
  }, [isMissing])
  useEffect(() => {
    text.value = where
  }, [table, where])
  useEffect(() => {
    chosen.value = undefined
    // Of the result before no transaction is kept.
    turn.value++
  }, [view.shown.value])

  const pause = (): void => {
    if (grid.rows.isPaused) {
      const { missed } = grid.rows
      grid.resume()
      announce(`shown again, with ${counted(missed, 'change')}`)
    } else {
      grid.pause()
      announce('paused')
    }
  }
  const step = (by: number): void => {
    const { value } = chosen
    const at = value && 'transaction' in value ? view.transactions.indexOf(value.transaction) : by > 0 ? -1 : 0
    const seen = view.transactions.newest(Math.max(0, at + by))
    if (seen) chosen.value = { transaction: seen.number }
  }
  useEffect(
    () =>
      onKey({
        '/': () => document.getElementById('where')?.focus(),
        j: () => (grid.element.focus(), grid.move(1)),
        k: () => (grid.element.focus(), grid.move(-1)),
        ' ': pause,
        '[': () => step(1),
        ']': () => step(-1),
        y: () => void (grid.active && copy(whole(grid.activeValue))),
        Escape: () => (chosen.value = undefined),
      }),
    [],
  )

  const names = useComputed(() => view.shown.value)
  const full = url.value
  const askedOf = ({ table, where }: Asking): Asked => ({ table, where, isUndecided: where !== '' && infoOf(table)?.replica_identity !== 'full' })
  const current = askedOf({ table: table ?? '', where })
  const { value: shown } = names
  const isStale = shown !== undefined && (shown.table !== table || shown.where !== where)

  if (known?.length === 0 && asked === undefined) return <NoTables />
  return (
    <div class="query">
      <TableChoice place="query" heading="Tables" tables={known} chosen={table} />
      <Bar
        table={table ?? ''}
        columns={info?.columns ?? (shown?.table === table ? grid.rows.shape.columns : [])}
        text={text}
        applied={where}
        refused={view.refused.value}
        apply={(given) => (given === where && live && table !== undefined ? view.ask(live, { table, where }) : go({ where: given || undefined }))}
      />
      <section class="result" aria-label="Rows of the result">
        <div class="strip">
          <State view={view} isWaiting={table === undefined && problems.value.length > 0} />
          <Figures view={view} counts={counts} isStale={isStale && (view.refused.value !== undefined || view.waits.value !== undefined)} />
          <span class="grow" />
          <label class="order">
            <span class="unseen">Order</span>
            <select
              value={typeof order.by === 'object' ? 'column' : order.by === 'newest' ? 'newest' : 'key'}
              onChange={(event) => event.currentTarget.value !== 'column' && go({ order: { by: event.currentTarget.value as 'key' | 'newest', desc: false } }, true)}
            >
              <option value="key">by its key</option>
              <option value="newest">newest first</option>
              {typeof order.by === 'object' && (
                <option value="column">
                  by {order.by.column} {order.desc ? '↓' : '↑'}
                </option>
              )}
            </select>
          </label>
          <button type="button" aria-pressed={counts.value.isPaused} title="Stops the view, not the stream (Space)" onClick={pause}>
            {counts.value.isPaused ? 'Resume' : 'Pause'}
          </button>
          <Menu
            label="Copy as"
            items={[
              ['React hook', () => copy(asHook(current))],
              ['client', () => copy(asClient(current, full))],
              ['walcast tail', () => copy(asTail(current, full))],
              ['link to this', () => copy(location.href)],
            ]}
          />
        </div>
        <div class="grid-place" ref={attach} data-stale={isStale ? '' : undefined} />
        <Empty view={view} counts={counts} command={(asking) => asTail(askedOf(asking), full)} missing={isMissing ? table : undefined} />
      </section>
      <Side transactions={view.transactions} turn={turn} chosen={chosen} item={(id) => grid.rows.get(id)} keyNames={grid.rows.shape.key} />
    </div>
  )
}

/** With `isWaiting` the server cannot say yet which tables there are. */
function State({ view, isWaiting }: { view: LiveView; isWaiting: boolean }) {
  const { name } = connection.value
  const status = isWaiting || name === 'waiting' || name === 'refused' ? 'offline' : view.status.value
  return (
    <span class="state" data-state={status}>
      {view.shown.value === undefined && view.refused.value ? 'refused' : isWaiting ? 'waiting for tables' : STATUS[status]}
    </span>
  )
}

/** With `isStale` the rows are of the query before one that was refused, or is not answered yet. */
function Figures({ view, counts, isStale }: { view: LiveView; counts: { value: { rows: number; missed: number; isPaused: boolean } }; isStale: boolean }) {
  const { rows, missed, isPaused } = counts.value
  const position = view.position.value
  const reading = view.reading.value
  if (reading > 0) {
    return (
      <span class="figure">
        <b>{count(reading)}</b> {reading === 1 ? 'row' : 'rows'} so far
      </span>
    )
  }
  if (!view.shown.value) return null
  return (
    <>
      <span class="figure">
        <b>{count(rows)}</b> {rows === 1 ? 'row' : 'rows'}
      </span>
      {isPaused ? (
        <span class="figure paused">{counted(missed, 'change')} while paused</span>
      ) : isStale ? (
        <span class="figure paused" title={`SELECT * FROM ${view.shown.value.table}${view.shown.value.where && ` WHERE ${view.shown.value.where}`}`}>
          of the query before
        </span>
      ) : (
        <span class="figure" title="changes of this result in the last second">
          <b>{count(view.rate.value)}</b> changes/s
        </span>
      )}
      {position && !isPaused && (
        <button type="button" class="plain mono figure position" title={`Position of the last change: ${position}. Click to copy.`} onClick={() => copy(position)}>
          {shortPosition(position)}
        </button>
      )}
    </>
  )
}

/** `missing` is the name of a table that is not published. */
function Empty({ view, counts, command, missing }: { view: LiveView; counts: { value: { rows: number } }; command: (asking: Asking) => string; missing: string | undefined }) {
  const shown = view.shown.value
  if (counts.value.rows > 0) return null
  if (shown) {
    return (
      <div class="empty over">
        <p>
          <b>No row of {shown.table} matches now.</b> One that comes to match appears here.
        </p>
        <p class="soft">The same in a terminal:</p>
        <Command text={command(shown)} />
      </div>
    )
  }
  if (view.refused.value && missing !== undefined) {
    return (
      <div class="empty over">
        <p>
          <b>{missing} is not published.</b> Choose one of the tables, or publish it in Postgres: its rows appear here within seconds.
        </p>
        <Command text={publish(missing)} />
      </div>
    )
  }
  if (view.refused.value) {
    return (
      <div class="empty over">
        <p>
          <b>There is no result yet.</b> {view.refused.value.at === undefined ? 'Do what is said above, then press Enter.' : 'Mend the predicate above and press Enter.'}
        </p>
      </div>
    )
  }
  if (view.waits.value) {
    return (
      <div class="empty over">
        <p>
          <b>Not yet.</b> {sentence(view.waits.value)} The page asks again by itself.
        </p>
      </div>
    )
  }
  return null
}

function NoTables() {
  return (
    <div class="empty page">
      <p>
        <b>No table is published.</b> walcast shows the tables of its publication. Add one in Postgres, and it appears here within seconds:
      </p>
      <Command text={PUBLISH} />
      <p class="soft">No restart is needed.</p>
    </div>
  )
}
