import { sql } from '@walcast/client'
import { useEffect, useRef, useState } from 'react'
import { logOut, token } from './api'
import { useConnection, useLiveQuery, useWalcast } from './live'
import { Room } from './Room'

export function Chat({ name }: { name: string }) {
  useFreshToken(name)
  const { rows, filled } = useLiveQuery({ table: 'rooms' })
  const rooms = rows.toSorted((a, b) => a.id - b.id)
  const [chosen, choose] = useState<number>()
  const room = rooms.find(({ id }) => id === chosen) ?? rooms[0]
  const connection = useConnection()

  return (
    <div className="chat">
      <nav>
        <h1>Chat</h1>
        <ul>
          {rooms.map(({ id, name }) => (
            <li key={id}>
              <button aria-current={id === room?.id} onClick={() => choose(id)}>{name}</button>
            </li>
          ))}
        </ul>
        <p>
          {name} {connection.name !== 'open' && <em>{connection.name}</em>}
          <button onClick={logOut}>Log out</button>
        </p>
      </nav>
      {room ? <Room key={room.id} room={room} name={name} /> : <main className="nothing">{filled && 'You are in no room.'}</main>}
    </div>
  )
}

/** A token holds the rooms of its user, so there has to be another one when these change. */
function useFreshToken(name: string): void {
  const client = useWalcast()
  const rooms = useLiveQuery(
    { table: 'members', where: sql`user_name = ${name}` },
    { select: ({ rows, filled }) => (filled ? rows.map((row) => row.room_id).sort().join() : undefined) },
  )
  const before = useRef<string>(undefined)
  useEffect(() => {
    if (before.current !== undefined && rooms !== undefined && rooms !== before.current) void client.setToken(token)
    before.current = rooms ?? before.current
  }, [client, rooms])
}
