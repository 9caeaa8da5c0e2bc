import { type Client, type WalcastError, changes } from '@walcast/client'
import type { Feed } from './feed.js'

/** Follows a table until the signal; after what cannot be gone on from, it begins at what comes next, and says so. */
export async function follow(client: Client, table: string, feed: Feed, signal: AbortSignal, came: () => void, failed: (error: WalcastError) => void): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const event of changes(client, { table }, { old: true, signal })) {
        if (event.type !== 'tx') continue
        feed.take(table, event)
        came()
      }
      return
    } catch (error) {
      if (signal.aborted) return
      const { code, message } = error as WalcastError
      if (!['resume_expired', 'resume_invalid', 'schema_changed'].includes(code)) return failed(error as WalcastError)
      feed.gap(`${table}: ${message.split('\n', 1)[0]!} What came meanwhile is not shown.`)
      came()
    }
  }
}
