import { sql } from '@walcast/client'
import { useState } from 'react'
import { call } from './api'
import { useLiveQuery } from './live'

const USERS = ['Ann', 'Bob', 'Cleo']

/** The members of a room. Everybody in it may bring others in, and take them out. */
export function Members({ room }: { room: number }) {
  const { rows, filled } = useLiveQuery({ table: 'members', where: sql`room_id = ${room}` })
  const [problem, setProblem] = useState('')
  if (!filled) return null
  return (
    <div className="members">
      {USERS.map((name) => {
        const isMember = rows.some((row) => row.user_name === name)
        const change = () => {
          setProblem('')
          call(isMember ? 'DELETE' : 'PUT', `/rooms/${room}/members/${name}`).catch((error: Error) => setProblem(`That did not work: ${error.message}`))
        }
        return (
          <button key={name} aria-pressed={isMember} title={isMember ? `Take ${name} out of the room` : `Bring ${name} into the room`} onClick={change}>
            {name}
          </button>
        )
      })}
      {problem && <p className="problem" role="alert">{problem}</p>}
    </div>
  )
}
