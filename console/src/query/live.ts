/** The result that the Query place shows: one live query, and the next one until it has rows of its own. */
import { type Client, type LiveQuery, type Status, inspect, onDiff } from '@walcast/client'
import { signal } from '@preact/signals'
import type { Grid } from '../grid/grid.js'
import type { Row } from '../grid/rows.js'
import { counted } from '../text/format.js'
import { announce } from '../ui/announce.js'
import { type Problem, inWords } from './bar.js'
import { Transactions } from './transactions.js'

export interface Asking {
  readonly table: string
  readonly where: string
}

/** Rows that are shown of a result that is not whole yet. */
const FIRST_ROWS = 200

export class LiveView {
  readonly transactions = new Transactions()
  /** The query of the rows that are shown; undefined before there are any. */
  readonly shown = signal<Asking | undefined>(undefined)
  readonly status = signal<Status>('connecting')
  /** Rows that have come of the first result, while it is not whole: the table has the first of them. */
  readonly reading = signal(0)
  readonly refused = signal<Problem | undefined>(undefined)
  /** The server's reason to say: not now. The client asks again by itself. */
  readonly waits = signal<string | undefined>(undefined)
  readonly position = signal<string | undefined>(undefined)
  /** Called after each transaction. */
  took: (() => void) | undefined
  /** Changes of the last second. */
  readonly rate = signal(0)

  readonly #grid: Grid
  #query: LiveQuery<Row, unknown> | undefined
  #endNext: (() => void) | undefined
  #position: string | undefined
  #wasAway = false
  #missed = 0
  #counted = 0
  /** Rows that have come of the first result so far, which `reading` tells once for each picture. */
  #came = 0
  #frame = 0
  readonly #timer = setInterval(() => {
    this.rate.value = this.#counted
    this.#counted = 0
  }, 1000)

  constructor(grid: Grid) {
    this.#grid = grid
  }

  /** Asks for another result. The last good one stays until this has come. */
  ask(client: Client, asking: Asking): void {
    this.#endNext?.()
    this.refused.value = this.waits.value = undefined
    // The log may leave undecided whether a row left: then the server says so, rather than refuse the query.
    const next = client.liveQuery({ table: asking.table, ...(asking.where && { where: asking.where }), undecided: 'send' }, { partial: true }) as LiveQuery<Row, unknown>
    let isOver = false
    let unlisten: (() => void) | undefined
    const look = (): void => {
      if (isOver) return
      const { error, filled, status, rows } = next.state
      if (this.shown.value === undefined) {
        this.status.value = status
        if (!filled) this.#read(next, rows)
      }
      if (error && !filled) {
        end()
        next.close()
        this.#stopReading()
        this.refused.value = problemOf(error)
      } else if (filled) {
        end()
        this.#show(next, asking)
      }
    }
    // A query says nothing of refusals after which it is asked again.
    const watch = inspect(client, (type, text) => {
      if (type === 'received' && text.startsWith('{"type":"error"')) this.waits.value = (JSON.parse(text) as { message: string }).message
    })
    const end = (): void => {
      isOver = true
      unlisten?.()
      watch.end()
      this.waits.value = undefined
      this.#endNext = undefined
    }
    this.#endNext = () => {
      end()
      if (next === this.#query) return
      next.close()
      this.#stopReading()
    }
    // What is refused before it is sent, as a predicate that is too long, is told meanwhile.
    unlisten = next.onChange(look)
    if (isOver) unlisten()
    look()
  }

  /** Shows where it stands: once for each picture. */
  flush(): void {
    this.position.value = this.#position
  }

  /** Another database, or another caller: nothing of what is shown is true any more. */
  clear(): void {
    this.#endNext?.()
    this.#query?.close()
    this.#query = undefined
    this.shown.value = undefined
    this.refused.value = this.waits.value = undefined
    this.status.value = 'connecting'
    this.transactions.clear()
    this.reading.value = this.#came = 0
    this.#empty()
  }

  end(): void {
    clearInterval(this.#timer)
    cancelAnimationFrame(this.#frame)
    this.#endNext?.()
    this.#query?.close()
  }

  /**
   * Shows the first rows of a result that is being read, where they are in the order of its key: which rows another order
   * begins with is known at the end. They stay as they are until then.
   */
  #read({ kept: { columns, key } }: LiveQuery<Row, unknown>, rows: readonly Row[]): void {
    // A connection that was lost begins anew.
    if (rows.length < this.#came) this.#empty()
    this.#came = rows.length
    if (this.reading.value === 0) this.reading.value = this.#came
    else this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0
      if (this.reading.value > 0) this.reading.value = this.#came
    })
    const { by, desc } = this.#grid.rows.order
    if (rows.length === 0 || this.#grid.rows.length > 0 || by !== 'key' || desc) return
    const keyOf = (row: Row, i: number): unknown => (key.length === 0 ? i : key.map((name) => row[name]))
    this.#grid.reset({ columns, key }, rows.slice(0, FIRST_ROWS).map((row, i) => ({ key: keyOf(row, i), row })), true)
  }

  /** Rows of a result that will not be whole go. */
  #stopReading(): void {
    if (this.reading.value > 0) this.#empty()
    this.reading.value = this.#came = 0
  }

  #empty(): void {
    this.#grid.reset({ columns: [], key: [] }, [])
  }

  #show(query: LiveQuery<Row, unknown>, asking: Asking): void {
    this.#query?.close()
    this.#query = query
    this.transactions.clear()
    this.#fill(query)
    this.reading.value = this.#came = 0
    this.shown.value = asking
    this.status.value = query.state.status
    this.position.value = this.#position = query.state.position
    announce(`live: ${counted(this.#grid.rows.count, 'row')}`)
    onDiff(query, (diff) => {
      this.#position = diff.position
      const { columns, key } = query.kept
      // The table has other columns now: what is on the screen has other cells.
      if (JSON.stringify(columns) !== JSON.stringify(this.#grid.rows.shape.columns) || String(key) !== String(this.#grid.rows.shape.key)) this.#fill(query)
      else this.#grid.apply(diff.changes)
      this.transactions.add(diff)
      this.#counted += diff.changes.length
      this.#missed += diff.changes.length
      this.took?.()
    })
    query.onChange(() => this.#changed(query))
  }

  #fill({ kept: { columns, key, entries } }: LiveQuery<Row, unknown>): void {
    this.#grid.reset({ columns, key }, entries)
  }

  #changed(query: LiveQuery<Row, unknown>): void {
    const { status, error } = query.state
    if (status === this.status.value) return
    this.status.value = status
    if (error) this.refused.value = problemOf(error)
    if (status === 'offline') {
      this.#wasAway = true
      this.#missed = 0
      announce('the connection is lost; the rows are as they were')
    } else if (status === 'live' && this.#wasAway) {
      this.#wasAway = false
      announce(`resumed, ${counted(this.#missed, 'change')}`)
    } else if (status === 'error') announce(`the query ended: ${error?.message ?? ''}`)
  }
}

const problemOf = ({ message, offset }: { message: string; offset?: number }): Problem => ({ message: inWords(message), at: offset })
