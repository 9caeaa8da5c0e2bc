import { createCollection } from '@tanstack/react-db'
import { createClient } from '@walcast/client'
import { walcastCollectionOptions } from '@walcast/client/tanstack-db'
import { type Tasks, schema } from './schema'

export const client = createClient(import.meta.env.VITE_WALCAST_URL, { schema })

/** The table, live. A task that is written shows at once, and is replaced by the database's own row once that is there. */
export const tasks = createCollection(
  walcastCollectionOptions({
    client,
    query: { table: 'tasks' },
    getKey: (task) => task.id,
    onInsert: ({ transaction }) => save(transaction.mutations.map(({ modified }) => modified)),
    onUpdate: ({ transaction }) => save(transaction.mutations.map(({ modified }) => modified)),
  }),
)

/** Writes, and returns the position that the collection waits for. If it throws, what was shown is taken back. */
async function save(written: readonly Tasks[]): Promise<{ position: string }> {
  const response = await fetch('/api/tasks', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(written),
  })
  if (!response.ok) throw new Error(`the server answered ${response.status}`)
  return response.json()
}
