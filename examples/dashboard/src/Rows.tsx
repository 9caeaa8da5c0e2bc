import { createHooks } from '@walcast/client/react'
import { behind } from './bars'
import { money, time } from './format'
import type { Schema } from './schema'

const { useLiveQuery } = createHooks<Schema>()

/** The rows behind a bar: its own query, which is live here as it is there. */
export function Rows({ start }: { start: number }) {
  const query = behind(start)
  const { rows } = useLiveQuery(query)
  return (
    <section aria-label={`Orders of ${time(start)}`}>
      <code>{query.where.where.replace(/\$(\d)/g, (_, n) => `'${(query.where.params[n - 1] as Date).toISOString()}'`)}</code>
      <table>
        <thead>
          <tr><th>Order</th><th>Customer</th><th>Status</th><th className="number">Worth</th></tr>
        </thead>
        <tbody>
          {rows.toSorted((a, b) => b.id - a.id).map(({ id, customer, status, cents }) => (
            <tr key={id}>
              <td>{id}</td><td>{customer}</td><td><span className={status}>{status}</span></td><td className="number">{money(cents)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}
