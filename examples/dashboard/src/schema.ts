// Written by `walcast types`, version 0.1.0: do not edit.
// Database postgres, publication walcast, sha256 04818ecf0f6cfbd3.

import type { SchemaOf } from '@walcast/client'

export interface Orders {
  id: number
  customer: string
  status: 'open' | 'paid' | 'shipped' | 'cancelled'
  cents: number
  placed_at: string
}

export interface Schema {
  orders: { row: Orders; key: 'id' }
}

export const schema: SchemaOf<Schema> = {
  tables: {
    orders: {
      key: ['id'],
      columns: {
        id: 'integer',
        customer: 'text',
        status: 'order_status',
        cents: 'integer',
        placed_at: 'timestamp with time zone',
      },
    },
  },
}
