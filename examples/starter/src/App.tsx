import { eq, useLiveQuery } from '@tanstack/react-db'
import { type SubmitEvent, useState } from 'react'
import { tasks } from './tasks'

export function App() {
  const { data: shown, isReady } = useLiveQuery({
    queryKey: ['all'],
    query: (query) => query.from({ task: tasks }).orderBy(({ task }) => task.created_at),
  })
  const { data: open } = useLiveQuery({
    queryKey: ['open'],
    query: (query) => query.from({ task: tasks }).where(({ task }) => eq(task.done, false)),
  })
  const [problem, setProblem] = useState('')
  const failed = (error: Error) => setProblem(`That was not saved: ${error.message}`)

  function add(event: SubmitEvent<HTMLFormElement>) {
    event.preventDefault()
    const form = event.currentTarget
    const title = String(new FormData(form).get('title')).trim()
    if (!title) return
    form.reset()
    setProblem('')
    const task = { id: crypto.randomUUID(), title, done: false, created_at: new Date().toISOString() }
    tasks.insert(task).isPersisted.promise.catch(failed)
  }

  function setDone(id: string, done: boolean) {
    setProblem('')
    tasks.update(id, (task) => void (task.done = done)).isPersisted.promise.catch(failed)
  }

  return (
    <main>
      <h1>Tasks</h1>
      <p role="status">{isReady ? `${open.length} to do` : 'Connecting'}</p>
      <ul>
        {shown.map(({ id, title, done }) => (
          <li key={id}>
            <label>
              <input type="checkbox" checked={done} onChange={(event) => setDone(id, event.target.checked)} />
              <span>{title}</span>
            </label>
          </li>
        ))}
      </ul>
      <form onSubmit={add}>
        <input name="title" aria-label="Task" placeholder="Another task" autoComplete="off" />
        <button>Add</button>
      </form>
      {problem && <p role="alert">{problem}</p>}
    </main>
  )
}
