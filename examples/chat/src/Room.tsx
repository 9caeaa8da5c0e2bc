import { sql, waitFor } from '@walcast/client'
import { type SubmitEvent, startTransition, useOptimistic, useState } from 'react'
import { call } from './api'
import { useLiveQuery, useWalcast } from './live'
import { Members } from './Members'
import type { Messages, Rooms } from './schema'
import { useTyping } from './typing'

/** The number of messages that a page of the history begins with. */
const PAGE = 30

/** A message that the database may not have yet. */
type Shown = Pick<Messages, 'key' | 'author' | 'text'> & Partial<Messages>

export function Room({ room, name }: { room: Rooms; name: string }) {
  const client = useWalcast()
  const { rows, filled } = useLiveQuery(page(room.id))
  // The key of a message is the same before and after it was stored: it is shown once whichever comes first.
  const [shown, show] = useOptimistic<readonly Shown[], Shown>(rows, (rows, own) => (rows.some(({ key }) => key === own.key) ? rows : [own, ...rows]))
  const [problem, setProblem] = useState('')
  const { typing, type } = useTyping(room.id, name, rows[0])

  function send(event: SubmitEvent<HTMLFormElement>) {
    event.preventDefault()
    const form = event.currentTarget
    const text = String(new FormData(form).get('text')).trim()
    if (!text) return
    form.reset()
    const own = { key: crypto.randomUUID(), author: name, text }
    startTransition(async () => {
      show(own)
      try {
        const { position } = await call<{ position: string }>('POST', `/rooms/${room.id}/messages`, { text, key: own.key })
        await waitFor(client, position)
        setProblem('')
      } catch (error) {
        setProblem(`“${text}” was not sent: ${(error as Error).message}`)
      }
    })
  }

  return (
    <main className="room" aria-label={room.name}>
      <header>
        <h2>{room.name}</h2>
        <Members room={room.id} />
      </header>
      <div className="history" tabIndex={0}>
        <ol>
          {rows.length >= PAGE && <Older room={room.id} before={rows.at(-1)!.id} name={name} />}
          {filled && <Lines messages={shown} name={name} />}
        </ol>
      </div>
      <p className="typing" role="status">{typing.length > 0 && `${typing.join(' and ')} ${typing.length > 1 ? 'are' : 'is'} typing`}</p>
      {problem && <p className="problem" role="alert">{problem}</p>}
      <form onSubmit={send}>
        <input name="text" aria-label="Message" placeholder={`Message the ${room.name}`} autoComplete="off" maxLength={2000} onChange={type} autoFocus />
        <button>Send</button>
      </form>
    </main>
  )
}

/** The newest messages of a room, or those before one. */
const page = (room: number, before?: number) => ({
  table: 'messages' as const,
  where: before === undefined ? sql`room_id = ${room}` : sql`room_id = ${room} AND id < ${before}`,
  orderBy: [{ column: 'id' as const, desc: true }],
  limit: PAGE,
})

/** A button for the messages before one, and then these: every page is a live query of its own. */
function Older(props: { room: number; before: number; name: string }) {
  const [isOpen, open] = useState(false)
  return isOpen ? <Page {...props} /> : <li className="older"><button onClick={() => open(true)}>Older messages</button></li>
}

function Page({ room, before, name }: { room: number; before: number; name: string }) {
  const { rows } = useLiveQuery(page(room, before))
  return (
    <>
      {rows.length >= PAGE && <Older room={room} before={rows.at(-1)!.id} name={name} />}
      <Lines messages={rows} name={name} />
    </>
  )
}

/** Messages, of which the newest is the first one and is shown last. */
function Lines({ messages, name }: { messages: readonly Shown[]; name: string }) {
  return messages.toReversed().map(({ key, author, text, sent_at }) => (
    <li key={key} className={author === name ? 'own' : ''} aria-busy={!sent_at}>
      <small>
        {author} {sent_at ? <time dateTime={sent_at}>{TIME.format(new Date(sent_at))}</time> : 'sending'}
      </small>
      <p>{text}</p>
    </li>
  ))
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
