import { describe, expect, test } from 'vitest'
import { points, ticks } from '../src/health/plot.js'
import { type Status, statusOf, verdict } from '../src/health/sentence.js'
import { Series } from '../src/health/series.js'

const SLOT = { lag_bytes: 0, retained_wal_bytes: 16 * 1024 ** 2, safe_wal_bytes: 784 * 1024 ** 2, lost: false }
const STATUS: Status = {
  ready: true,
  remark: null,
  standby: false,
  replication_up: true,
  uptime_seconds: 60,
  version: '1.0.0',
  slot: SLOT,
  journal_bytes: 0,
  clients: { connections: 0, subscriptions: 0, catching_up: 0, stalled: 0 },
}
const told = (start: number, values: (number | null)[], more: object = {}) => ({ start, end: start + values.length, series: { latency_p50_seconds: values }, metric: {}, events: [], ...more })

describe('an hour of samples', () => {
  test('goes on where it was, without a sample twice', () => {
    const series = new Series()
    series.take(told(100, [1, 2, null], { events: [{ at: 101.5, kind: 'restart', text: 'started' }] }))
    expect(series.since).toBe(102)
    series.take({ ...told(101, [2, null, 4]), series: { latency_p50_seconds: [2, null, 4], connections: [5, 5, 6] }, events: [{ at: 101.5, kind: 'restart', text: 'started' }] })
    expect(series.times).toEqual([100, 101, 102, 103])
    expect(series.values).toEqual({ latency_p50_seconds: [1, 2, null, 4], connections: [null, null, null, 6] })
    expect(series.events.length).toBe(1)
    expect(series.take(told(101, [2, null, 4]))).toBe(false)
  })

  test('is never more than an hour', () => {
    const series = new Series()
    for (let i = 0; i < 4000; i += 500) series.take(told(i, new Array<number>(500).fill(i)))
    expect([series.times.length, series.times[0], series.values.latency_p50_seconds!.length]).toEqual([3600, 400, 3600])
  })
})

describe('one sentence', () => {
  const series = new Series()
  series.take(told(0, new Array<number>(60).fill(0.002)))
  const say = (status: Partial<Status>, of = series): string => {
    const { kind, text, more } = verdict({ ...STATUS, ...status }, of)
    return `${kind}: ${text} ${more}`
  }

  test('says how it is', () => {
    expect(say({})).toBe('good: Flowing, 2 ms behind. The slot keeps 16 MB of WAL, 2% of its bound.')
    expect(say({ slot: { ...SLOT, safe_wal_bytes: null } })).toContain('without a bound')
    expect(say({ slot: null })).toBe('good: Flowing, 2 ms behind. ')
    expect(say({ slot: { ...SLOT, lost: true } })).toMatch(/^bad: The replication slot is lost/)
    expect(say({ replication_up: false })).toMatch(/^bad: Not connected to Postgres/)
    expect(say({ standby: true })).toMatch(/^amber: Standing by/)
    expect(say({ slot: { ...SLOT, lag_bytes: 200 * 1024 ** 2 } })).toMatch(/^amber: Behind Postgres by 200 MB/)
  })

  test('is about the database that is shown, where there are several', () => {
    const { version, uptime_seconds, ...others } = STATUS
    const told = { version, uptime_seconds, ready: true, sources: [{ ...others, name: 'a' }, { ...others, name: 'b', standby: true }] } as any
    expect([statusOf(told, 'b')?.standby, statusOf(told, 'b')?.version, statusOf(told, 'c'), statusOf(STATUS, undefined)]).toEqual([true, '1.0.0', undefined, STATUS])
  })

  test('says when the slot will be lost', () => {
    const growing = new Series()
    growing.take({ ...told(0, []), end: 300, series: { retained_wal_bytes: Array.from({ length: 300 }, (_, i) => i * 1024 ** 2) } })
    expect(say({}, growing)).toContain('2% of its bound; if it goes on growing by 1 MB a second, the slot is lost in 13 min')
    expect(say({ slot: { ...SLOT, safe_wal_bytes: null } }, growing)).toContain('grows by 1 MB a second, 3.5 GB in an hour; Postgres')
  })
})

describe('a chart', () => {
  test('has a grid of numbers that read well, of bytes by 1,024', () => {
    expect(ticks(173, 3)).toEqual([0, 100, 200])
    expect(ticks(0.0146, 3).map((value) => +value.toFixed(6))).toEqual([0, 0.005, 0.01, 0.015])
    expect(ticks(12 * 1024 ** 2, 3, 1024)).toEqual([0, 5 * 1024 ** 2, 10 * 1024 ** 2, 15 * 1024 ** 2])
    expect(ticks(1.4 * 1024 ** 2, 3, 1024)).toEqual([0, 512 * 1024, 1024 ** 2, 1.5 * 1024 ** 2])
    expect(ticks(0, 3)).toEqual([0, 1])
  })

  test('keeps the peak of each pixel, and has gaps where nothing was for a while', () => {
    const times = [0, 1, 2, 3, 20, 21]
    expect(points(times, [1, 9, null, 2, 5, 5], 0, (time) => time / 2, 5)).toEqual([{ x: 0, value: 1 }, { x: 1, value: 9 }, { x: 2, value: 2 }, undefined, { x: 10, value: 5 }, { x: 11, value: 5 }])
  })
})
