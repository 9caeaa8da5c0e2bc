/** The state of walcast in one sentence, and the cure if it needs one. */
import { amount, bytes, duration, sentence } from '../text/format.js'
import type { Series } from './series.js'

export interface Slot {
  readonly lag_bytes: number | null
  readonly retained_wal_bytes: number | null
  readonly safe_wal_bytes: number | null
  readonly lost: boolean
}

const UNKNOWN: Slot = { lag_bytes: null, retained_wal_bytes: null, safe_wal_bytes: null, lost: false }

export interface Status {
  readonly ready: boolean
  readonly remark: string | null
  readonly standby: boolean
  readonly replication_up: boolean
  readonly uptime_seconds: number
  readonly version: string
  /** Null until Postgres has told of it. */
  readonly slot: Slot | null
  readonly journal_bytes: number
  readonly clients: { readonly connections: number; readonly subscriptions: number; readonly catching_up: number; readonly stalled: number }
}

/** The answer of `/api/status`: of several databases each is in `sources`. */
export type ToldStatus = Status & { readonly sources?: readonly (Status & { readonly name: string })[] }

/** The state of one database; undefined if there is none of this name. */
export function statusOf(told: ToldStatus, name: string | undefined): Status | undefined {
  const { sources, version, uptime_seconds } = told
  if (!sources || sources.length === 0) return told
  const own = sources.find((source) => source.name === name)
  return own && { ...own, version, uptime_seconds }
}

export interface Verdict {
  readonly kind: 'good' | 'amber' | 'bad'
  readonly text: string
  /** Further meaning, and the cure. */
  readonly more: string
  readonly command?: string
}

const MANY_BYTES = 64 * 1024 * 1024
const SLOW_SECONDS = 1
const SOON_SECONDS = 86_400
/** Growth of the WAL that is kept, in bytes a second, below which it is not spoken of. */
const GROWS = 1024

export function verdict(status: Status, series: Series): Verdict {
  const slot = status.slot ?? UNKNOWN
  const kept = slot.retained_wal_bytes ?? 0
  if (slot.lost) {
    return { kind: 'bad', text: 'The replication slot is lost.', more: 'Postgres removed WAL that walcast had not read. Start walcast with --recreate-slot: it creates the slot again, and clients begin anew with new snapshots.' }
  }
  if (status.standby) return { kind: 'amber', text: 'Standing by.', more: 'Another walcast reads the slot. This one takes over when that ends.' }
  if (!status.replication_up) {
    return { kind: 'bad', text: 'Not connected to Postgres.', more: `${sentence(status.remark ?? 'walcast tries again by itself')} Clients stay connected and hear nothing until walcast is connected again; Postgres keeps WAL for the slot meanwhile${kept > 0 ? `, ${bytes(kept)} now` : ''}.`, command: 'walcast check' }
  }
  const wal = keeps(slot, series)
  const lag = slot.lag_bytes ?? 0
  if (lag > MANY_BYTES) return { kind: 'amber', text: `Behind Postgres by ${bytes(lag)} of WAL.`, more: wal.text, ...wal.command }
  if (!status.ready) return { kind: 'amber', text: 'Not ready.', more: `${sentence(status.remark ?? '')} ${wal.text}`.trim() }
  const median = series.latest('latency_p50_seconds', 60)
  const text = median === null ? 'Flowing; nothing was sent in the last minute.' : `Flowing, ${duration(median)} behind.`
  const kind = wal.isBad || (median !== null && median > SLOW_SECONDS) ? 'amber' : 'good'
  return { kind, text, more: wal.text, ...wal.command }
}

/** The WAL that the slot has Postgres keep, and the time until its bound, as far as they are known. */
function keeps({ retained_wal_bytes: kept, safe_wal_bytes: safe }: Slot, series: Series): { text: string; isBad: boolean; command?: { command: string } } {
  if (kept === null) return { text: '', isBad: false }
  const growth = series.growth('retained_wal_bytes') ?? 0
  if (safe === null) {
    return {
      text: `The slot keeps ${bytes(kept)} of WAL, without a bound${growth > GROWS ? `, and grows by ${bytes(growth)} a second, ${bytes(growth * 3600)} in an hour; Postgres does not tell how much room the disk has` : ': if nobody reads it, it fills the disk'}. To bound it:`,
      isBad: false,
      command: { command: "ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'; SELECT pg_reload_conf();" },
    }
  }
  const bound = kept + safe
  const left = growth > GROWS ? safe / growth : Infinity
  const share = `${amount((kept / bound) * 100)}% of its bound`
  const isBad = kept / bound > 0.5 || left < SOON_SECONDS
  return { text: `The slot keeps ${bytes(kept)} of WAL, ${share}${left === Infinity ? '' : `; if it goes on growing by ${bytes(growth)} a second, the slot is lost in ${duration(left)}`}.`, isBad }
}
