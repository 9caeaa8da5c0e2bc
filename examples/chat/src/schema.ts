// Written by `walcast types`, version 0.1.0: do not edit.
// Database postgres, publication walcast, sha256 ca2a789ed48071b1.

import type { SchemaOf } from '@walcast/client'

export interface Members {
  room_id: number
  user_name: string
}

export interface Messages {
  id: number
  room_id: number
  author: string
  text: string
  sent_at: string
  key: string
}

export interface Rooms {
  id: number
  name: string
}

export interface Schema {
  members: { row: Members; key: 'room_id' | 'user_name' }
  messages: { row: Messages; key: 'id' }
  rooms: { row: Rooms; key: 'id' }
}

export const schema: SchemaOf<Schema> = {
  tables: {
    members: {
      key: ['room_id', 'user_name'],
      columns: {
        room_id: 'integer',
        user_name: 'text',
      },
    },
    messages: {
      key: ['id'],
      columns: {
        id: 'integer',
        room_id: 'integer',
        author: 'text',
        text: 'text',
        sent_at: 'timestamp with time zone',
        key: 'uuid',
      },
    },
    rooms: {
      key: ['id'],
      columns: {
        id: 'integer',
        name: 'text',
      },
    },
  },
}
