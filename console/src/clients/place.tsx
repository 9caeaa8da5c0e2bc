/** Clients: who is connected and how far behind, and which queries cost. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { address } from '../address.js'
import { access, get, poll, url } from '../server.js'
import { ago, amount, bytes, count, counted, duration } from '../text/format.js'
import { asTail } from '../text/snippets.js'
import { printAddress } from '../text/url.js'
import { Command } from '../ui/copy.js'

interface Connection {
  readonly id: number
  readonly address: string
  readonly origin: string | null
  /** It is one of this console. */
  readonly operator: boolean
  readonly subject: string | null
  /** Unix seconds. */
  readonly opened: number
  readonly state: 'live' | 'catching_up' | 'stalled' | 'opening'
  readonly subscriptions: number
  readonly behind_bytes: number
  readonly sent_bytes: number
  /** Null until there were two looks at it. */
  readonly bytes_per_second: number | null
}

interface Asked {
  readonly table: string
  readonly where: string | null
  readonly columns: readonly string[] | null
  readonly subscribers: number
  readonly filed: { readonly kind: string; readonly text: string }
  /** Null until there were two looks at it. */
  readonly matches_per_second: number | null
  /** In units of about a nanosecond. */
  readonly work_per_second: number | null
}

/** Lines that are shown at once. */
const AT_ONCE = 100
const STATES = { live: 'live', catching_up: 'catching up', stalled: 'stalled', opening: 'opening' } as const

export function ClientsPlace() {
  const connections = useSignal<{ total: number; connections: readonly Connection[] } | undefined>(undefined)
  const queries = useSignal<{ total: number; queries: readonly Asked[] } | undefined>(undefined)
  const wanted = useSignal('')
  const most = useSignal(AT_ONCE)
  useEffect(() => {
    const ends = [
      poll(2000, async () => (connections.value = await get('/api/connections'))),
      poll(2000, async () => (queries.value = await get('/api/queries'))),
    ]
    return () => ends.forEach((end) => end())
  }, [])
  const all = connections.value?.connections ?? []
  const text = wanted.value.trim().toLowerCase()
  const found = text === '' ? all : all.filter(({ address, origin, subject }) => [address, origin, subject].some((part) => part?.toLowerCase().includes(text)))
  const now = Date.now()
  const example = access.value?.public
  return (
    <div class="clients">
      <section class="card" aria-labelledby="queries-title">
        <header class="strip">
          <h2 id="queries-title">Queries</h2>
          {queries.value && queries.value.total > 0 && <span class="soft">{counted(queries.value.total, 'distinct query', 'distinct queries')}, the costliest first</span>}
        </header>
        {queries.value?.queries.length === 0 && <p class="empty soft">Nobody subscribes to anything.</p>}
        {queries.value && queries.value.queries.length > 0 && (
          <div class="scroll" tabIndex={0} role="group" aria-labelledby="queries-title">
            <table class="plain-table">
              <thead>
                <tr>
                  <th scope="col">Query</th>
                  <th scope="col">Filed under</th>
                  <th scope="col" class="right">
                    Subscribers
                  </th>
                  <th scope="col" class="right">
                    Matches
                  </th>
                  <th scope="col" class="right" title="The time that looking at its predicate takes; unknown if it is too little to be counted">
                    Work
                  </th>
                </tr>
              </thead>
              <tbody>
                {queries.value.queries.map((query, i) => (
                  <tr key={i}>
                    <td class="wide">
                      <QueryText query={query} />
                    </td>
                    <td>
                      {query.filed.kind === 'every_change' ? (
                        <span class="tag amber" title="No part of it is an equality or a range: it is looked at for each change of the table">
                          every change
                        </span>
                      ) : (
                        <>
                          <span class="tag">{query.filed.kind.replaceAll('_', ' ')}</span> <code>{query.filed.text}</code>
                        </>
                      )}
                    </td>
                    <td class="right">{count(query.subscribers)}</td>
                    <td class="right">{query.matches_per_second === null ? '–' : `${amount(query.matches_per_second)}/s`}</td>
                    <td class="right">{query.work_per_second === null ? '–' : `${duration(query.work_per_second / 1e9)}/s`}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      <section class="card" aria-labelledby="connections-title">
        <header class="strip">
          <h2 id="connections-title">Connections</h2>
          {connections.value && connections.value.total > 0 && (
            <span class="soft">
              {counted(connections.value.total, 'connection')}, those furthest behind first
              {connections.value.total > all.length && ` (the first ${count(all.length)})`}
            </span>
          )}
          <span class="grow" />
          <label>
            <span class="unseen">Filter by address, origin or subject</span>
            <input type="search" placeholder="address, origin or subject" value={wanted.value} onInput={(event) => (wanted.value = event.currentTarget.value)} />
          </label>
        </header>
        {connections.value?.total === 0 && (
          <div class="empty">
            <p>
              <b>Nobody is connected.</b> {example ? 'A client in a terminal:' : 'Clients connect to the public listener.'}
            </p>
            {example && <Command text={asTail({ table: address.value.table ?? 'orders', where: '' }, url.value)} />}
          </div>
        )}
        {all.length > 0 && found.length === 0 && <p class="empty soft">None of them has “{wanted.value}” in its address, origin or subject.</p>}
        {found.length > 0 && (
          <div class="scroll" tabIndex={0} role="group" aria-labelledby="connections-title">
            <table class="plain-table">
              <thead>
                <tr>
                  <th scope="col">State</th>
                  <th scope="col" class="right" title="WAL between what it has got and what there is">
                    Behind
                  </th>
                  <th scope="col">Subject</th>
                  <th scope="col">Address</th>
                  <th scope="col">Origin</th>
                  <th scope="col">Opened</th>
                  <th scope="col" class="right">
                    Subscriptions
                  </th>
                  <th scope="col" class="right">
                    Now
                  </th>
                  <th scope="col" class="right">
                    Sent
                  </th>
                </tr>
              </thead>
              <tbody>
                {found.slice(0, most.value).map((one) => (
                  <tr key={one.id}>
                    <td>
                      <span class="state" data-state={one.state === 'stalled' ? 'offline' : one.state}>
                        {STATES[one.state] ?? one.state}
                      </span>
                    </td>
                    <td class="right">{bytes(one.behind_bytes)}</td>
                    <td class="value">{one.operator ? <span class="tag">console</span> : (one.subject ?? <span class="soft">{access.value?.rows ? 'anonymous' : 'not shown'}</span>)}</td>
                    <td class="value">{one.address}</td>
                    <td class="value">{one.origin ?? <span class="soft">none</span>}</td>
                    <td title={new Date(one.opened * 1000).toLocaleString()}>{ago(one.opened * 1000, now)}</td>
                    <td class="right">{count(one.subscriptions)}</td>
                    <td class="right">{one.bytes_per_second === null ? '–' : `${bytes(one.bytes_per_second)}/s`}</td>
                    <td class="right">{bytes(one.sent_bytes)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {found.length > most.value && (
          <p class="empty">
            <button type="button" onClick={() => (most.value += AT_ONCE)}>
              Show more of {counted(found.length - most.value, 'further connection')}
            </button>
          </p>
        )}
      </section>
    </div>
  )
}

function QueryText({ query: { table, where } }: { query: Asked }) {
  const name = table.replace(/^public\./, '')
  if (!access.value?.rows) return <code>{name}</code>
  // A predicate with parameters is not one that can be run as it stands.
  const text = (
    <code>
      <b>{name}</b>
      {where && ` WHERE ${where}`}
    </code>
  )
  return where && /\$\d/.test(where) ? text : <a href={printAddress({ place: 'query', source: address.value.source, table: name, where: where ?? undefined })}>{text}</a>
}
