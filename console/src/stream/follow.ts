import { type Client, type WalcastError, changes } from '@walcast/client'
import { signal } from '@preact/signals'
import type { Feed } from './feed.js'

export interface Followed {
  readonly name: string
  /** The findings about it; a table that could not be followed is tried again when they change. */
  readonly problems: string
}

interface Follower {
  readonly control: AbortController
  readonly problems: string
  failure?: string
}

/** Follows the changes of tables. Those that stay are followed without a break while others come and go. */
export class Followers {
  /** The tables that are not followed, with the reason, a sentence each. */
  readonly failures = signal<readonly string[]>([])
  readonly #feed: Feed
  readonly #came: () => void
  readonly #all = new Map<string, Follower>()
  #client: Client | undefined

  constructor(feed: Feed, came: () => void) {
    this.#feed = feed
    this.#came = came
  }

  /** Says which tables there are now. */
  set(client: Client | undefined, tables: readonly Followed[]): void {
    if (client !== this.#client) this.end()
    this.#client = client
    if (!client) return
    const names = new Set(tables.map(({ name }) => name))
    for (const [name, { control }] of this.#all) {
      if (names.has(name)) continue
      control.abort()
      this.#all.delete(name)
    }
    for (const { name, problems } of tables) {
      const known = this.#all.get(name)
      if (known && (known.failure === undefined || known.problems === problems)) continue
      const follower: Follower = { control: new AbortController(), problems }
      this.#all.set(name, follower)
      void follow(client, name, this.#feed, follower.control.signal, this.#came, ({ message }) => {
        follower.failure = `Changes of ${name} are not shown: ${message.split('\n', 1)[0]!}`
        this.#tell()
      })
    }
    this.#tell()
  }

  end(): void {
    for (const { control } of this.#all.values()) control.abort()
    this.#all.clear()
    this.#client = undefined
  }

  #tell(): void {
    this.failures.value = [...this.#all.values()].flatMap(({ failure }) => failure ?? [])
  }
}

/** Follows a table until the signal; after what cannot be gone on from, it begins at what comes next, and says so. */
async function follow(client: Client, table: string, feed: Feed, signal: AbortSignal, came: () => void, failed: (error: WalcastError) => void): Promise<void> {
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
      feed.gap(`${table}: ${message.split('\n', 1)[0]!} Changes until now are not shown.`)
      came()
    }
  }
}
