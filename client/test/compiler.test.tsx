// @vitest-environment happy-dom
import { act } from 'react'
import { createRoot } from 'react-dom/client'
import { expect, test } from 'vitest'
import { WalcastProvider } from '../src/react/index.js'
import { List, renders } from './support/compiled.js'
import { Talk } from './support/talk.js'

test('hooks do the same in components that the React Compiler compiled', async () => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })
  expect(List.toString()).toMatch(/\$\[0\]/)
  const talk = new Talk()
  const box = document.createElement('div')
  const root = createRoot(box)
  await act(async () => root.render(<WalcastProvider client={talk.client}><List least={2} /></WalcastProvider>))
  await act(() => talk.greet())
  const columns = [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }]
  const ids = talk.take().map(({ id, where }) => [where, id])
  const all = ids.find(([where]) => where === undefined)![1]
  const some = ids.find(([where]) => where === 'id >= $1')![1]
  await act(async () => {
    for (const [id, rows] of [[all, [{ id: 1, title: 'a' }, { id: 2, title: 'b' }]], [some, [{ id: 2, title: 'b' }]]]) {
      talk.say({ type: 'subscribed', id, position: '0/100', key: ['id'], columns, replica_identity: 'full', warnings: [] })
      talk.say({ type: 'snapshot', id, rows })
      talk.say({ type: 'live', id, position: '0/100' })
    }
  })
  expect(box.innerHTML).toBe('live b <li>a</li><li>b</li>')
  await act(async () => talk.tx('0/200', [{ id: all, op: 'update', row: { id: 1, title: 'A' } }]))
  expect(box.innerHTML).toBe('live b <li>A</li><li>b</li>')
  expect(renders).toEqual({ 'shown a': 1, 'shown b': 1, 'shown A': 1 })
  await act(async () => talk.tx('0/300', [{ id: all, op: 'insert', row: { id: 3, title: 'c' } }, { id: some, op: 'insert', row: { id: 3, title: 'c' } }]))
  expect(box.innerHTML).toBe('live b,c <li>A</li><li>b</li><li>c</li>')
  await act(async () => root.unmount())
})
