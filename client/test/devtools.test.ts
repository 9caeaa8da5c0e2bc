// @vitest-environment happy-dom
import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { inspect } from '../src/index.js'
import { mount } from '../src/devtools/index.js'
import { Talk } from './support/talk.js'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }))
afterEach(() => {
  vi.useRealTimers()
  document.body.innerHTML = ''
})

/** What the panel shows, and its buttons. */
const panel = (talk: Talk, open = true) => {
  const remove = mount(talk.client, { open })
  const root = (document.querySelector('[data-walcast]') as HTMLElement).shadowRoot!
  const find = (text: string): HTMLElement => [...root.querySelectorAll('button')].find((button) => button.textContent === text)!
  return {
    remove,
    root,
    status: () => root.querySelector('.status')!.textContent,
    text: () => root.querySelector('main')!.textContent,
    click: (text: string) => find(text).click(),
    find,
    draw: () => void vi.advanceTimersByTime(250),
  }
}

test('it shows each query with its rows, status, listeners and place', async () => {
  const talk = new Talk()
  const shown = panel(talk)
  expect(shown.text()).toContain('No query is open')
  const tasks = talk.client.liveQuery({ table: 'task', where: 'id > $1', params: [1] })
  tasks.subscribe(() => {})
  tasks.onChange(() => {})
  await talk.greet()
  const id = talk.fill([{ id: 2, title: 'a' }])
  talk.say({ type: 'progress', position: '0/180' })
  shown.draw()
  const cells = (): (string | null)[] => [...shown.root.querySelectorAll('tbody td')].slice(0, 5).map(({ textContent }) => textContent)
  expect(cells()).toEqual(['task where id > $1 [1]', 'live', '1', '1', '0/180'])
  talk.say({ type: 'error', id, code: 'bad_predicate', message: '<b>no</b>', offset: 0 })
  shown.draw()
  // What comes from outside is text.
  expect([cells()[1], shown.root.querySelector('main b'), shown.root.querySelector('.bad')!.textContent]).toEqual(['error', null, expect.stringContaining('<b>no</b>')])
})

test('it shows how far behind the last transaction was, and what happened to the connection', async () => {
  const talk = new Talk()
  const shown = panel(talk)
  talk.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await talk.greet()
  const id = talk.fill([])
  vi.setSystemTime(Date.parse('2026-01-01T00:00:00.012Z'))
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 1, title: 'a' } }])
  shown.click('Connection')
  talk.socket.end(1006)
  shown.draw()
  expect(shown.status()).toBe('waiting, 12 ms behind at the last transaction')
  const lines = [...shown.root.querySelectorAll('main code')].map(({ textContent }) => textContent!.split(' ')[0])
  expect(lines).toEqual(['wss://example.com/v1/stream?numbers=string', 'waiting', 'open', 'connecting', 'idle'])
})

test('it keeps the last 500 frames, and no token', async () => {
  const talk = new Talk({ token: () => 'secret' })
  const shown = panel(talk)
  talk.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await talk.greet()
  const id = talk.fill([])
  shown.click('Frames')
  shown.draw()
  const lines = (): string[] => [...shown.root.querySelectorAll('summary')].map(({ textContent }) => textContent!.slice(13))
  expect(lines().at(-1)).toMatch(/^→ auth, \d+ characters$/)
  expect(lines()).toContainEqual(expect.stringMatching(/^← subscribed 1, /))
  expect(shown.root.textContent).not.toContain('secret')
  // An open one stays open.
  shown.root.querySelectorAll('details')[0]!.open = true
  shown.root.querySelectorAll('details')[0]!.dispatchEvent(new Event('toggle'))
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 1, title: 'x'.repeat(10_000) } }])
  shown.draw()
  const details = [...shown.root.querySelectorAll('details')]
  expect(details.slice(0, 2).map(({ open }) => open)).toEqual([false, true])
  expect(details[0]!.querySelector('pre')!.textContent!.length).toBeLessThan(5000)
  for (let i = 0; i < 600; i++) talk.say({ type: 'progress', position: `0/${(0x300 + i).toString(16)}` })
  shown.draw()
  expect(lines()).toHaveLength(500)
})

test('paused, the view stands still and says what came meanwhile', async () => {
  const talk = new Talk()
  const shown = panel(talk)
  talk.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await talk.greet()
  const id = talk.fill([])
  shown.draw()
  shown.click('Pause')
  const before = shown.text()
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 1, title: 'a' } }])
  talk.say({ type: 'progress', position: '0/300' })
  shown.draw()
  expect(shown.text()).toBe(before)
  expect(shown.status()).toContain('2 changes while paused')
  shown.click('Pause')
  expect(shown.text()).toContain('0/300')
})

test('it drops the socket, which comes back, and forgets a place, so that the query begins anew', async () => {
  const talk = new Talk()
  const shown = panel(talk)
  const tasks = talk.client.liveQuery({ table: 'task' })
  tasks.subscribe(() => {})
  await talk.greet()
  const id = talk.fill([{ id: 1, title: 'a' }])
  shown.click('Drop the socket')
  expect([talk.socket.isOpen, talk.client.connection.name, tasks.state.rows.length]).toEqual([false, 'waiting', 1])
  talk.platform.pass(1000)
  await talk.greet()
  expect(talk.sent.at(-1)).toMatchObject({ from: '0/100' })
  const again = talk.accept()
  talk.say({ type: 'live', id: again, position: '0/100' })
  shown.draw()
  shown.click('Forget the place')
  expect(talk.sent.slice(-2)).toMatchObject([{ type: 'unsubscribe', id: again }, { type: 'subscribe', snapshot: true }])
  expect(tasks.state).toMatchObject({ status: 'catching-up', rows: [{ id: 1, title: 'a' }] })
  talk.fill([{ id: 2, title: 'b' }], '0/200')
  expect(tasks.state).toMatchObject({ status: 'live', rows: [{ id: 2, title: 'b' }] })
  expect(id).not.toBe(again)
})

test('a query is copied as a command that a shell reads as it is meant', async () => {
  const talk = new Talk()
  const shown = panel(talk)
  talk.client.liveQuery({ table: 'task', where: `title = $1 AND title <> 'it''s'`, params: ['a "b" $c'], columns: ['title'] }).subscribe(() => {})
  await talk.greet()
  shown.draw()
  const written = vi.fn()
  vi.stubGlobal('navigator', { clipboard: { writeText: async (text: string) => written(text) } })
  shown.click('Copy as walcast tail')
  const command = written.mock.calls[0]![0] as string
  const words = execFileSync('sh', ['-c', `printf '%s\\n' ${command}`]).toString().trimEnd().split('\n')
  expect(words).toEqual(['walcast', 'tail', 'task', '--url', 'wss://example.com/v1/stream', '--snapshot', '--where', `title = $1 AND title <> 'it''s'`, '--param-json', '"a \\"b\\" $c"', '--columns', 'title'])
  vi.unstubAllGlobals()
})

test('a query with an order shows it, and its command says what it cannot ask for', async () => {
  const talk = new Talk()
  const shown = panel(talk)
  talk.client.liveQuery({ table: 'task', orderBy: [{ column: 'title', desc: true }], limit: 5 }).subscribe(() => {})
  await talk.greet({ features: ['reach', 'range'] })
  shown.draw()
  expect(shown.root.textContent).toContain('task the first 5 by [{"column":"title","desc":true}]')
  const written = vi.fn()
  vi.stubGlobal('navigator', { clipboard: { writeText: async (text: string) => written(text) } })
  shown.click('Copy as walcast tail')
  expect(written).toHaveBeenCalledWith('walcast tail task --url wss://example.com/v1/stream --snapshot # all rows, not only the first 5')
  vi.unstubAllGlobals()
})

test('it is opened and closed, draws nothing while it is closed, and leaves nothing behind', async () => {
  const talk = new Talk()
  const shown = panel(talk, false)
  const main = shown.root.querySelector('main')!
  talk.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await talk.greet()
  shown.draw()
  expect(main.childNodes).toHaveLength(0)
  shown.click('walcast')
  expect(main.textContent).toContain('task')
  shown.click('Close')
  expect((shown.root.querySelector('.panel') as HTMLElement).hidden).toBe(true)
  shown.remove()
  expect(document.querySelector('[data-walcast]')).toBeNull()
  talk.fill([{ id: 1, title: 'a' }])
  expect(vi.getTimerCount()).toBe(0)
})

test('what an inspector throws does not concern the client', async () => {
  const talk = new Talk()
  inspect(talk.client, () => {
    throw new Error('mine')
  })
  const tasks = talk.client.liveQuery({ table: 'task' })
  tasks.subscribe(() => {})
  await talk.greet()
  talk.fill([{ id: 1, title: 'a' }])
  expect(tasks.state.status).toBe('live')
  expect(talk.reported.length).toBeGreaterThan(2)
})

test('one who inspects and ends it twice does not end it for others', async () => {
  const talk = new Talk()
  const first = inspect(talk.client, () => {})
  first.end()
  const heard: string[] = []
  inspect(talk.client, (type) => void heard.push(type))
  first.end()
  talk.client.connect()
  await talk.greet()
  expect(heard).toEqual(['received'])
})

test('the example of the README', async () => {
  vi.useRealTimers()
  const talk = new Talk()
  const { readFileSync } = await import('node:fs')
  const [, example] = /```ts\n(if \(import\.meta\.env\.DEV\).*?)\n```/s.exec(readFileSync('README.md', 'utf8'))!
  const body = example!.replace('import.meta.env.DEV', 'true').replace(/await import\('(.*?)'\)/, 'await load("$1")')
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor
  await new AsyncFunction('client', 'load', body)(talk.client, (name: string) => (name === '@walcast/client/devtools' ? import('../src/devtools/index.js') : undefined))
  expect(document.querySelector('[data-walcast]')).not.toBeNull()
})
