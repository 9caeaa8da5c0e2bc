import type { PersistedTx, PersistenceAdapter } from '@tanstack/db-sqlite-persistence-core'

/** What TanStack keeps rows in, but in memory: transactions of one collection. */
export class Store implements PersistenceAdapter {
  readonly transactions: PersistedTx[] = []
  readonly rows = new Map<string | number, Record<string, unknown>>()
  readonly rowMetadata = new Map<string | number, unknown>()
  readonly metadata = new Map<string, unknown>()

  /** The place that is noted. */
  get place(): unknown {
    return (this.metadata.get('walcast:result') as { place: unknown } | undefined)?.place
  }

  async applyCommittedTx(_: string, tx: PersistedTx): Promise<void> {
    this.transactions.push(tx)
    for (const mutation of tx.mutations) {
      if (mutation.type === 'delete') this.rows.delete(mutation.key)
      else this.rows.set(mutation.key, structuredClone(mutation.value))
    }
    for (const [into, mutations] of [[this.rowMetadata, tx.rowMetadataMutations], [this.metadata, tx.collectionMetadataMutations]] as const) {
      for (const mutation of mutations ?? []) {
        if (mutation.type === 'delete') into.delete(mutation.key as never)
        else into.set(mutation.key as never, structuredClone(mutation.value))
      }
    }
  }

  async loadSubset(): Promise<{ key: string | number; value: Record<string, unknown>; metadata?: unknown }[]> {
    return [...this.rows].map(([key, value]) => ({ key, value: { ...value }, metadata: this.rowMetadata.get(key) }))
  }

  async loadCollectionMetadata(): Promise<{ key: string; value: unknown }[]> {
    return [...this.metadata].map(([key, value]) => ({ key, value }))
  }

  async ensureIndex(): Promise<void> {}
}
