/** Tables: whether they can be subscribed to, what must be altered for it, and their types for a program. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { address } from '../address.js'
import { access, get, poll, text } from '../server.js'
import { PUBLISH, type Problem, type TableInfo, nameOf, pollTables, publish, tables } from '../tables.js'
import { amount, clock, counted } from '../text/format.js'
import { printAddress } from '../text/url.js'
import { Command, CopyButton } from '../ui/copy.js'
import { TableChoice } from '../ui/table-choice.js'

interface Finding extends Problem {
  readonly table: string | null
}

const IDENTITIES: Readonly<Record<string, string>> = {
  full: 'full: the log holds the whole old row, so every predicate is decided',
  default: 'default: the log holds the key alone of old rows',
  index: 'index: the log holds the columns of an index of old rows',
  nothing: 'nothing: the log holds nothing of old rows',
}

export function TablesPlace() {
  const found = useSignal<{ at: number; findings: readonly Finding[] } | undefined>(undefined)
  useEffect(() => {
    const ends = [pollTables(), poll(30_000, async () => (found.value = await get('/api/check')))]
    return () => ends.forEach((end) => end())
  }, [])
  const known = tables.value
  const { table: asked } = address.value
  if (!known) return null
  const shown = asked === undefined ? known[0] : known.find((one) => nameOf(one) === asked || one.table === asked)
  const general = found.value?.findings.filter(({ table }) => table === null || !known.some((one) => one.table === table)) ?? []
  return (
    <div class="tables-place">
      <TableChoice
        place="tables"
        heading={
          <>
            {counted(known.length, 'table')} <small>published</small>
          </>
        }
        tables={known}
        chosen={shown ? nameOf(shown) : asked}
      />
      <div class="table-info">
        {general.length > 0 && (
          <section class="card pad" aria-label="The database">
            <h2>The database</h2>
            <Findings findings={general} />
          </section>
        )}
        {shown ? (
          <Info table={shown} findings={(found.value?.findings ?? shown.problems.map((problem) => ({ ...problem, table: shown.table }))).filter(({ table }) => table === shown.table)} />
        ) : (
          <div class="empty stack">
            <p>
              <b>{asked === undefined ? 'No table is published.' : `${asked} is not published.`}</b> {asked === undefined ? 'Add one' : 'Add it'} in Postgres, and it appears here within seconds, without a restart:
            </p>
            <Command text={asked === undefined ? PUBLISH : publish(asked)} />
          </div>
        )}
        {found.value && <p class="soft checked">Checked at {clock(found.value.at * 1000)}, as walcast check does.</p>}
      </div>
    </div>
  )
}

function Findings({ findings }: { findings: readonly Problem[] }) {
  return (
    <ul class="findings">
      {findings.map(({ severity, message, fix }) => (
        <li key={message} data-severity={severity}>
          <p>
            <b>{severity === 'error' ? 'Error' : 'Warning'}</b> {message}
          </p>
          {fix && <Command text={fix} />}
        </li>
      ))}
    </ul>
  )
}

function Info({ table, findings }: { table: TableInfo; findings: readonly Problem[] }) {
  const name = nameOf(table)
  return (
    <section class="card pad" aria-label={name}>
      <header class="title">
        <h2>{name}</h2>
        <span class="grow" />
        {access.value?.rows && <a href={printAddress({ place: 'query', source: address.value.source, table: name })}>See its rows</a>}
      </header>
      {findings.length > 0 ? <Findings findings={findings} /> : <p class="good">✓ It can be subscribed to; walcast check finds nothing.</p>}
      <dl class="facts">
        <div>
          <dt>Key</dt>
          <dd>{table.key.length > 0 ? <code>{table.key.join(', ')}</code> : 'none: updates and deletes carry the whole old row'}</dd>
        </div>
        <div>
          <dt>Replica identity</dt>
          <dd>{IDENTITIES[table.replica_identity] ?? table.replica_identity}</dd>
        </div>
        <div>
          <dt>Published</dt>
          <dd>
            by <code>{table.publications.join(', ')}</code>: {table.publishes.join(', ')}
          </dd>
        </div>
        {table.row_filters.length > 0 && (
          <div>
            <dt>Row filter</dt>
            <dd>
              <code>{table.row_filters.join(' OR ')}</code>
            </dd>
          </div>
        )}
        <div>
          <dt>Now</dt>
          <dd>
            {amount(table.changes_per_second)} changes/s, {counted(table.subscriptions, 'subscription')}
          </dd>
        </div>
      </dl>
      <div class="scroll" tabIndex={0} role="group" aria-label={`Columns of ${name}`}>
        <table class="plain-table">
          <thead>
            <tr>
              <th scope="col">Column</th>
              <th scope="col">Type</th>
              <th scope="col">Notes</th>
            </tr>
          </thead>
          <tbody>
            {table.columns.map(({ name: column, type, key, published, enum: labels }) => (
              <tr key={column} data-out={published ? undefined : ''}>
                <td class="value">{column}</td>
                <td class="value">{type}</td>
                <td>
                  {key && <span class="tag">key</span>}
                  {!published && <span class="tag amber">not published</span>}
                  {labels && <span class="soft">{labels.join(', ')}</span>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Types key={name} table={table.table} />
    </section>
  )
}

function Types({ table }: { table: string }) {
  const types = useSignal<string | undefined>(undefined)
  const load = (event: Event): void => {
    if (!(event.currentTarget as HTMLDetailsElement).open || types.value !== undefined) return
    text(`/api/types?table=${encodeURIComponent(table)}`).then(
      (told) => (types.value = told),
      (error: Error) => (types.value = `// ${error.message}`),
    )
  }
  return (
    <details onToggle={load}>
      <summary>Types for TypeScript</summary>
      <Command text="walcast types --out schema.ts" />
      {types.value !== undefined && (
        <div class="types">
          <CopyButton text={types.value} />
          <pre class="value" tabIndex={0}>
            {types.value}
          </pre>
        </div>
      )}
    </details>
  )
}
