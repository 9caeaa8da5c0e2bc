import { sql } from '@walcast/client'
import { call } from './api'
import { useLiveQuery } from './live'

const USERS = ['Ann', 'Bob', 'Cleo']

/** Who is in a room. Everybody in it may bring others in, and take them out. */
export function Members({ room }: { room: number }) {
  const members = useLiveQuery({ table: 'members', where: sql`room_id = ${room}` }, { select: ({ rows, filled }) => (filled ? rows.map((row) => row.user_name).join() : undefined) })
  if (members === undefined) return null
  return (
    <div className="members">
      {USERS.map((name) => {
        const isMember = members.split(',').includes(name)
        const change = () => call(isMember ? 'DELETE' : 'PUT', `/rooms/${room}/members/${name}`)
        return (
          <button key={name} aria-pressed={isMember} title={isMember ? `Take ${name} out of the room` : `Bring ${name} into the room`} onClick={() => void change()}>
            {name}
          </button>
        )
      })}
    </div>
  )
}
