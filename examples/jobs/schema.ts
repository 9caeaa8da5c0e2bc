// Written by `walcast types`, version 0.1.0: do not edit.
// Database postgres, publication walcast, sha256 d589cd9e9823d19f.

import type { SchemaOf } from '@walcast/client'

export interface Jobs {
  id: number
  title: string
  state: 'queued' | 'running' | 'done'
  progress: number
  worker: string | null
  attempts: number
  lease: string | null
}

export interface Schema {
  jobs: { row: Jobs; key: 'id' }
}

export const schema: SchemaOf<Schema> = {
  tables: {
    jobs: {
      key: ['id'],
      columns: {
        id: 'integer',
        title: 'text',
        state: 'job_state',
        progress: 'integer',
        worker: 'text',
        attempts: 'integer',
        lease: 'timestamp with time zone',
      },
    },
  },
}
