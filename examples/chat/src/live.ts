import { createHooks } from '@walcast/client/react'
import type { Schema } from './schema'

/** The hooks, with the types of the tables. */
export const { useLiveQuery, useConnection, useWalcast } = createHooks<Schema>()
