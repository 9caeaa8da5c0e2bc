/** Health: whether it is well, and if not, since when, and what to run. */
import { useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { get, poll, source } from '../server.js'
import { amount, bytes, clock, count, counted, duration } from '../text/format.js'
import { announce } from '../ui/announce.js'
import { Command } from '../ui/copy.js'
import { Chart, type Line } from './chart.js'
import { type Status, type ToldStatus, statusOf, verdict } from './sentence.js'
import { Series, type Told } from './series.js'

const SPANS = [
  [300, '5 min'],
  [900, '15 min'],
  [3600, '1 h'],
] as const

const perSecond = (value: number): string => `${amount(value)}/s`

const CHARTS: readonly { readonly title: string; readonly about: string; readonly print: (value: number) => string; readonly base?: number; readonly lines: readonly Line[] }[] = [
  {
    title: 'Changes',
    about: 'Row changes that Postgres sends, and messages that go to clients',
    print: perSecond,
    lines: [
      { name: 'changes_per_second', label: 'from Postgres', colour: '--accent' },
      { name: 'deliveries_per_second', label: 'to clients', colour: '--in' },
    ],
  },
  {
    title: 'From commit to sent',
    about: 'The time from a commit in Postgres until its changes are written to a client',
    print: duration,
    lines: [
      { name: 'latency_p50_seconds', label: 'median', colour: '--accent' },
      { name: 'latency_p99_seconds', label: '99%', colour: '--change' },
    ],
  },
  {
    title: 'WAL kept for the slot',
    about: 'WAL that Postgres keeps since walcast may still need it, and the part that walcast has not confirmed',
    print: bytes,
    base: 1024,
    lines: [
      { name: 'retained_wal_bytes', label: 'kept', colour: '--accent' },
      { name: 'slot_lag_bytes', label: 'lag', colour: '--change' },
      { name: 'safe_wal_bytes', label: 'left of the bound', colour: '--soft', isText: true },
    ],
  },
  {
    title: 'Clients',
    about: 'Connections, and those that read the journal since they are behind',
    print: count,
    lines: [
      { name: 'connections', label: 'connections', colour: '--accent' },
      { name: 'subscriptions', label: 'subscriptions', colour: '--in' },
      { name: 'catching_up', label: 'catching up', colour: '--change' },
      { name: 'stalled', label: 'stalled', colour: '--out' },
    ],
  },
  {
    title: 'Sent',
    about: 'Bytes that are written to clients',
    print: (value) => `${bytes(value)}/s`,
    base: 1024,
    lines: [{ name: 'sent_bytes_per_second', label: 'to clients', colour: '--accent' }],
  },
  {
    title: 'Journal',
    about: 'The history that clients can resume from, on the disk of walcast',
    print: bytes,
    base: 1024,
    lines: [
      { name: 'journal_bytes', label: 'size', colour: '--accent' },
      { name: 'journal_age_seconds', label: 'reaches back', colour: '--soft', isText: true, print: duration },
    ],
  },
]

export function HealthPlace() {
  const series = useMemo(() => new Series(), [])
  const status = useSignal<Status | undefined>(undefined)
  const turn = useSignal(0)
  const span = useSignal(300)
  const hovered = useSignal<number | undefined>(undefined)
  useEffect(() => {
    const ends = [
      poll(1000, async () => {
        const told = await get<Told>(`/api/series?since=${series.since}`)
        // A server that was started again begins anew.
        if (told.end < series.since) series.clear()
        if (series.take(told)) turn.value++
      }),
      poll(2000, async () => (status.value = statusOf(await get<ToldStatus>('/api/status'), source.value))),
    ]
    return () => ends.forEach((end) => end())
  }, [])
  void turn.value
  const now = status.value && verdict(status.value, series)
  useEffect(() => {
    if (now) announce(now.text)
  }, [now?.kind])
  if (!now) return null
  const { version, uptime_seconds, clients } = status.value!
  return (
    <div class="health">
      <section class="verdict-card card" data-kind={now.kind} aria-label="How it is">
        <p class="sentence">
          <span class="badge" aria-hidden="true">
            {now.kind === 'good' ? '✓' : '!'}
          </span>
          <b>{now.text}</b> {now.more}
        </p>
        {now.command && <Command text={now.command} />}
        <p class="soft">
          walcast {version}, up for {duration(uptime_seconds)}. {counted(clients.connections, 'connection')} with {counted(clients.subscriptions, 'subscription')}
          {clients.catching_up > 0 && `, ${count(clients.catching_up)} catching up`}
          {clients.stalled > 0 && `, ${count(clients.stalled)} stalled`}.
        </p>
      </section>
      <div class="strip bare chips" role="group" aria-label="Span">
        {SPANS.map(([seconds, label]) => (
          <button key={seconds} type="button" aria-pressed={span.value === seconds} onClick={() => (span.value = seconds)}>
            {label}
          </button>
        ))}
        <span class="soft">One sample a second, kept for an hour. A line shows the highest of each pixel.</span>
      </div>
      <div class="charts">
        {CHARTS.map((chart) => (
          <Chart key={chart.title} {...chart} series={series} turn={turn} span={span} hovered={hovered} />
        ))}
      </div>
      <section class="card events" aria-label="Events">
        <h2>
          Events <small>dashed lines in the charts</small>
        </h2>
        {series.events.length === 0 ? (
          <p class="empty soft">None in the last hour: no restart, no lost connection, no broken history.</p>
        ) : (
          <ol>
            {series.events.toReversed().map(({ at, kind, text }) => (
              <li key={`${at} ${text}`}>
                <time class="mono soft" dateTime={new Date(at * 1000).toISOString()}>
                  {clock(at * 1000)}
                </time>{' '}
                <b>{kind.replaceAll('_', ' ')}</b> {text}
              </li>
            ))}
          </ol>
        )}
      </section>
    </div>
  )
}
