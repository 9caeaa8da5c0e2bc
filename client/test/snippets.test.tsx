// @vitest-environment happy-dom
import { type ReactNode, act, createElement, useOptimistic } from 'react'
import { createRoot } from 'react-dom/client'
import { readFileSync, readdirSync } from 'node:fs'
import { render } from 'svelte/server'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { createClient } from '../src/index.js'
import { client as shared } from './support/client.js'

/** What the examples say to the server, and the rows that it answers with. */
let said: any[]
const ROWS = [{ id: 1, status: 'paid', amount: '120.00' }]

/** A server that has the rows for every query. */
class FakeSocket {
  readyState = 1
  onopen: (() => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose = null
  onerror = null
  constructor(readonly url: string) {
    setTimeout(() => {
      this.onopen?.()
      this.#say({ type: 'hello', protocol: 1, server: 'walcast/1', database: 'shop', epoch: 'e', position: '0/1', earliest: '0/1', features: ['reach', 'content', 'range'] })
    })
  }
  send(text: string): void {
    const message = JSON.parse(text)
    said.push(message)
    const { id, ref, reach } = message
    if (message.type === 'ping') setTimeout(() => this.#say({ type: 'pong', ref, ...(reach && { position: reach }) }))
    if (message.type !== 'subscribe') return
    setTimeout(() => {
      this.#say({ type: 'subscribed', id, position: '0/1', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'status', type: 'text' }, { name: 'amount', type: 'numeric' }, { name: 'at', type: 'timestamp with time zone' }], replica_identity: 'full', warnings: [] })
      this.#say({ type: 'snapshot', id, rows: ROWS })
      this.#say({ type: 'live', id, position: '0/1' })
    })
  }
  close(): void {
    this.onmessage = null
  }
  #say(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) })
  }
}

beforeEach(() => {
  said = []
  Object.assign(globalThis, { WebSocket: FakeSocket, IS_REACT_ACT_ENVIRONMENT: true })
  document.body.innerHTML = '<pre id="result">connecting</pre><div id="root"></div>'
})

/** Waits until something is so, and lets React see what happens meanwhile. */
const until = (isSo: () => unknown): Promise<void> =>
  act(async () => {
    const end = Date.now() + 10_000
    while (!isSo() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 2))
  })
const asked = (): any[] => said.filter(({ type }) => type === 'subscribe').map(({ type: _, id: __, ...query }) => query)
const PAID = { table: 'orders', where: 'status = $1 AND amount > $2', params: ['paid', 100], snapshot: true }

const show = async (element: ReactNode): Promise<HTMLElement> => {
  const root = document.getElementById('root')!
  await act(async () => createRoot(root).render(element))
  return root
}

describe('the examples of the README', () => {
  test('a page without a build, with the file that the server has for it', async () => {
    // @ts-expect-error Made by the configuration of the tests.
    await import('snippet:README.md/0')
    await until(() => document.getElementById('result')!.textContent!.startsWith('live\n'))
    expect(document.getElementById('result')!.textContent).toBe('live\n{"id":1,"status":"paid","amount":"120.00"}')
    expect(asked()).toEqual([PAID])
  })

  test('React', async () => {
    // @ts-expect-error The same.
    const { default: App } = await import('snippet:README.md/1')
    const root = await show(createElement(App))
    await until(() => root.textContent)
    expect(root.innerHTML).toBe('<ul aria-busy="false"><li>120.00</li></ul>')
    expect(asked()).toEqual([PAID])
  })
})

describe('the examples of the package', () => {
  const fragment = async (number: number, given: object): Promise<any> => (await import(/* @vite-ignore */ `snippet:client/README.md/${number}`)).default(given)

  test('a live query', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {})
    // @ts-expect-error The same.
    await import('snippet:client/README.md/0')
    await until(() => log.mock.calls.at(-1)?.[0] === 'live')
    expect(log.mock.calls.at(-1)).toEqual(['live', ROWS])
    log.mockRestore()
  })

  test('parsers', async () => {
    await fragment(1, { url: 'ws://127.0.0.1' })
  })

  test('the first rows of an order', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {})
    // @ts-expect-error The same.
    await import('snippet:client/README.md/2')
    await until(() => log.mock.calls.at(-1)?.[0].length > 0)
    expect(log.mock.calls.at(-1)).toEqual([ROWS])
    expect(asked()).toEqual([{ table: 'orders', order_by: [{ column: 'at', desc: true }, { column: 'id' }], limit: 50, snapshot: true }])
    log.mockRestore()
  })

  test('React', async () => {
    // @ts-expect-error The same.
    const { default: App } = await import('snippet:client/README.md/3')
    const root = await show(createElement(App))
    await until(() => root.textContent)
    expect(root.innerHTML).toBe('<ul aria-busy="false"><li>120.00</li></ul>')
  })

  test('rows that are not written yet', async () => {
    const client = createClient('ws://127.0.0.1')
    // @ts-expect-error The same.
    const { default: use } = await import('snippet:client/README.md/4')
    const posted = vi.fn(async () => ({ position: '0/1' }))
    let made: Promise<{ send: (form: FormData) => Promise<void> }> | undefined
    const Form = (): ReactNode => {
      made = use({ client, rows: [], useOptimistic, post: posted })
      return null
    }
    await show(createElement(Form))
    const form = new FormData()
    form.set('text', 'hi')
    const { send } = await made!
    vi.spyOn(console, 'error').mockImplementation(() => {}) // Outside of an action.
    await act(() => send(form))
    expect(posted).toHaveBeenCalledWith('/messages', { id: expect.any(String), text: 'hi' })
    expect(said).toContainEqual({ type: 'ping', ref: '0/1', reach: '0/1' })
    vi.restoreAllMocks()
    await client.close()
  })

  test('one\'s own writes', async () => {
    const client = createClient('ws://127.0.0.1')
    await fragment(5, { client, form: 'form', post: async () => ({ position: '0/9' }) })
    expect(said).toContainEqual({ type: 'ping', ref: '0/9', reach: '0/9' })
    await client.close()
  })

  test('tokens', async () => {
    const fetched = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response('secret'))
    await fragment(6, { url: 'ws://127.0.0.1' })
    fetched.mockRestore()
  })

  test('every change, for workers', async () => {
    const client = createClient('ws://127.0.0.1')
    const take = vi.fn()
    const done = fragment(7, { client, take }).catch((error: unknown) => error)
    await until(() => take.mock.calls.length > 0)
    expect(take).toHaveBeenCalledWith(ROWS[0])
    await client.close()
    expect(await done).toMatchObject({ code: 'closed' })
  })

  test('Svelte', async () => {
    const orders = shared.liveQuery({ table: 'orders' })
    await orders.ready()
    // @ts-expect-error The same.
    const { default: Orders } = await import('snippet:client/README.md/svelte')
    expect(render(Orders).body.replace(/<!--.*?-->/g, '')).toBe('<p>paid</p>')
    await shared.close()
  })

  test.each([
    ['Solid', 8, (orders: any) => orders()?.rows],
    ['RxJS', 9, (orders: any) => {
      let rows: unknown
      orders.subscribe((state: any) => (rows = state.rows)).unsubscribe()
      return rows
    }],
  ] as const)('%s', async (_, number, rowsOf) => {
    const client = createClient('ws://127.0.0.1')
    await client.liveQuery({ table: 'orders' }).ready()
    const { orders } = await fragment(number, { client })
    expect(rowsOf(orders)).toEqual(ROWS)
    await client.close()
  })
})

test('every example for front ends is run', () => {
  const tests = readdirSync('test').filter((name) => /\.tsx?$/.test(name)).map((name) => readFileSync(`test/${name}`, 'utf8')).join('\n')
  const blocks = (page: string, kinds: string): string[] => [...readFileSync(`../${page}`, 'utf8').matchAll(/^ *```(\w+)\n/gm)].map(([, kind]) => kind!).filter((kind) => kinds.split(' ').includes(kind))
  for (const page of ['README.md', 'client/README.md']) {
    for (const i of blocks(page, 'ts tsx html').keys()) {
      const isRun = tests.includes(`snippet:${page}/${i}'`) || (page === 'client/README.md' && (tests.includes(`fragment(${i},`) || tests.includes(`', ${i}, (orders`)))
      // That of the devtools is read by its own test.
      expect([page, i, isRun || i === 13]).toEqual([page, i, true])
    }
  }
  // Svelte's and Vue's: one each. The recipes of docs/consistency.md are run by tests/it/consistency.rs.
  expect(blocks('client/README.md', 'svelte vue')).toEqual(['svelte', 'vue'])
  const pages = readdirSync('../docs').filter((name) => name.endsWith('.md'))
  expect(pages.flatMap((name) => blocks(`docs/${name}`, 'ts tsx js jsx html svelte vue').map((kind) => `${name} ${kind}`))).toEqual(['consistency.md js', 'consistency.md js'])
  expect([...blocks('README.md', 'js jsx svelte vue'), ...blocks('client/README.md', 'js jsx')]).toEqual([])
})
