// Written by `walcast types`, version 0.1.0: do not edit.
// Database postgres, publication walcast, sha256 fd5705072c43cfa6.

import type { SchemaOf } from '@walcast/client'

export interface Tasks {
  id: string
  title: string
  done: boolean
  created_at: string
}

export interface Schema {
  tasks: { row: Tasks; key: 'id' }
}

export const schema: SchemaOf<Schema> = {
  tables: {
    tasks: {
      key: ['id'],
      columns: {
        id: 'uuid',
        title: 'text',
        done: 'boolean',
        created_at: 'timestamp with time zone',
      },
    },
  },
}
