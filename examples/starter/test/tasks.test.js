// Against the server that `npm run dev` runs in another terminal.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import { createClient, sql, waitFor } from '@walcast/client'
import { WebSocket } from 'ws'

const { PORT, WALCAST_URL = process.env.VITE_WALCAST_URL } = process.env

test('a task that was written is in the live query once that has come to its position', async (context) => {
  const client = createClient(WALCAST_URL, { webSocket: WebSocket })
  context.after(() => client.close())
  const task = { id: randomUUID(), title: 'written by a test', done: false }
  const live = client.liveQuery({ table: 'tasks', where: sql`id = ${task.id}` })
  live.subscribe(() => {})
  assert.deepEqual((await live.ready()).rows, [])

  const write = async (tasks) => {
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(`http://127.0.0.1:${PORT}/api/tasks`, { method: 'POST', headers, body: JSON.stringify(tasks) })
    await waitFor(client, (await response.json()).position)
  }
  await write([task])
  assert.equal(live.get(task.id).title, 'written by a test')
  await write([{ ...task, done: true }])
  assert.equal(live.get(task.id).done, true)
})
