// @vitest-environment happy-dom
import { Component, type ReactNode, StrictMode, Suspense, act, memo } from 'react'
import { type Root, createRoot, hydrateRoot } from 'react-dom/client'
import { renderToString } from 'react-dom/server'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { WalcastProvider, createHooks, useLiveQuery as useUntyped } from '../src/react/index.js'
import { COLUMNS, Talk, type Tables, type Task, promises } from './support/talk.js'

const { useLiveQuery, useSuspenseLiveQuery, useRow, useConnection, useWalcast } = createHooks<Tables>()

let talk: Talk
let box: HTMLElement
let roots: Root[]
const errors = vi.fn()

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })
  talk = new Talk()
  box = document.createElement('div')
  roots = []
  errors.mockClear()
  vi.spyOn(console, 'error').mockImplementation(errors)
})

afterEach(async () => {
  await act(async () => roots.forEach((root) => root.unmount()))
  vi.restoreAllMocks()
})

async function render(element: ReactNode): Promise<Root> {
  const root = createRoot(box)
  roots.push(root)
  await act(async () => root.render(<WalcastProvider client={talk.client}>{element}</WalcastProvider>))
  return root
}

const greet = (): Promise<void> => act(() => talk.greet())
const fill = (rows: readonly unknown[], position?: string): Promise<string> => act(async () => talk.fill(rows, position))
const tx = (position: string, changes: readonly object[]): Promise<void> => act(async () => talk.tx(position, changes))

class Boundary extends Component<{ children: ReactNode }> {
  override state: { error?: Error } = {}
  static getDerivedStateFromError(error: Error): object {
    return { error }
  }
  override render(): ReactNode {
    return this.state.error ? `caught ${this.state.error.message}` : this.props.children
  }
}

function Titles(): ReactNode {
  const { rows, status } = useLiveQuery({ table: 'task' })
  return `${status}: ${rows.map(({ title }) => title).join()}`
}

describe('useLiveQuery', () => {
  test('renders what there is with each change, in StrictMode with one subscription', async () => {
    await render(
      <StrictMode>
        <Titles />
        <Titles />
      </StrictMode>,
    )
    expect(box.textContent).toBe('connecting: connecting: ')
    await greet()
    expect(talk.sent.length).toBe(1)
    const id = await fill([{ id: 1, title: 'a' }])
    expect(box.textContent).toBe('live: alive: a')
    await tx('0/200', [{ id, op: 'insert', row: { id: 2, title: 'b' } }])
    expect(box.textContent).toBe('live: a,blive: a,b')
    expect(errors).not.toHaveBeenCalled()
  })

  test('of null is nothing, and of another query is that query', async () => {
    const Some = ({ where }: { where: string | null }): ReactNode => {
      const { rows, filled } = useLiveQuery(where === null ? null : { table: 'task', where })
      return `${filled} ${rows.length}`
    }
    const root = await render(<Some where={null} />)
    expect(box.textContent).toBe('false 0')
    expect(talk.platform.sockets.length).toBe(0)
    const again = (where: string | null): Promise<void> => act(async () => root.render(<WalcastProvider client={talk.client}><Some where={where} /></WalcastProvider>))
    await again('id > 0')
    await greet()
    await fill([{ id: 1, title: 'a' }])
    expect(box.textContent).toBe('true 1')
    await again('id > 1')
    expect(box.textContent).toBe('false 0')
    await fill([])
    expect(box.textContent).toBe('true 0')
    await act(async () => talk.platform.pass(6000))
    expect(talk.sent.filter(({ type }) => type === 'unsubscribe').map(({ id }) => id)).toEqual(['1'])
  })

  test('with select renders only if the selection changed: not for a status, nor for equal values', async () => {
    const renders = vi.fn()
    const Open = (): ReactNode => {
      // Functions and objects that are others each time change nothing.
      const ids = useLiveQuery({ table: 'task' }, { select: ({ rows }) => rows.map(({ id }) => id), isEqual: (a, b) => a.join() === b.join() })
      renders()
      return ids.join()
    }
    await render(<Open />)
    await greet()
    const id = await fill([{ id: 1, title: 'a' }])
    const before = renders.mock.calls.length
    await tx('0/200', [{ id, op: 'update', row: { id: 1, title: 'b' } }])
    await act(async () => talk.socket.end())
    expect(renders.mock.calls.length).toBe(before)
    await act(async () => talk.platform.pass(500))
    await greet()
    const again = await act(async () => talk.accept())
    await tx('0/300', [{ id: again, op: 'insert', row: { id: 2, title: 'c' } }].slice(0, 0))
    await act(async () => talk.say({ type: 'live', id: again, position: '0/300' }))
    expect(renders.mock.calls.length).toBe(before)
    await tx('0/400', [{ id: again, op: 'insert', row: { id: 2, title: 'c' } }])
    expect(renders.mock.calls.length).toBe(before + 1)
    expect(box.textContent).toBe('1,2')
  })

  test('with map gives what it makes, once for each row', async () => {
    const map = vi.fn(({ title }: Task) => title?.toUpperCase())
    const Upper = (): ReactNode => useLiveQuery({ table: 'task' }, { map: (row) => map(row) }).rows.join()
    await render(<Upper />)
    await greet()
    const id = await fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    await tx('0/200', [{ id, op: 'update', row: { id: 2, title: 'c' } }])
    expect(box.textContent).toBe('A,C')
    expect(map).toHaveBeenCalledTimes(3)
  })

  test('shows an error, or throws it for the next boundary', async () => {
    const unreachable = (): never => {
      throw new Error('a state that is thrown was selected from')
    }
    const Shown = (): ReactNode => useUntyped({ table: 'nowhere' }).error?.message
    const Thrower = (): ReactNode => useUntyped({ table: 'nowhere' }, { throwOnError: true, select: ({ error }) => (error ? unreachable() : 'fine') })
    await render(
      <>
        <Shown />;
        <Boundary>
          <Thrower />
        </Boundary>
      </>,
    )
    await greet()
    await act(async () => talk.say({ type: 'error', id: '1', code: 'unknown_table', message: 'no such table' }))
    expect(box.textContent).toBe('no such table;caught no such table')
  })

  test('five hundred of them unmount with one timer and one message', async () => {
    const root = await render(Array.from({ length: 500 }, (_, i) => <Titles key={i} />))
    await greet()
    await fill([{ id: 1, title: 'a' }])
    await act(async () => root.render(null))
    expect(talk.platform.timers).toBe(1)
    talk.platform.pass(5000)
    expect(talk.sent.filter(({ type }) => type !== 'ping').map(({ type }) => type)).toEqual(['subscribe', 'unsubscribe'])
  })

  test('needs a provider, and says so', async () => {
    const root = createRoot(box)
    roots.push(root)
    await act(async () => root.render(<Boundary><Titles /></Boundary>))
    expect(box.textContent).toBe('caught no <WalcastProvider> around this component')
  })
})

describe('useSuspenseLiveQuery', () => {
  const List = (): ReactNode => useSuspenseLiveQuery({ table: 'task' }).rows.map(({ title }) => title).join()
  const Waiting = (): ReactNode => (
    <Boundary>
      <Suspense fallback="wait">
        <List />
      </Suspense>
    </Boundary>
  )

  test('suspends until there is a result', async () => {
    await render(
      <StrictMode>
        <Waiting />
      </StrictMode>,
    )
    expect(box.textContent).toBe('wait')
    await greet()
    const id = await fill([{ id: 1, title: 'a' }])
    expect(box.textContent).toBe('a')
    await tx('0/200', [{ id, op: 'insert', row: { id: 2, title: 'b' } }])
    expect(box.textContent).toBe('a,b')
    expect(talk.sent.filter(({ type }) => type === 'subscribe').length).toBe(1)
    // Once there is one, a disconnect suspends nothing.
    await act(async () => talk.socket.end())
    expect(box.textContent).toBe('a,b')
  })

  test('suspends once with a map too, whose reader is another one in each attempt', async () => {
    const Upper = (): ReactNode => useSuspenseLiveQuery({ table: 'task' }, { map: ({ title }) => title?.toUpperCase() }).rows.join()
    await render(
      <StrictMode>
        <Boundary>
          <Suspense fallback="wait">
            <Upper />
          </Suspense>
        </Boundary>
      </StrictMode>,
    )
    await greet()
    expect(box.textContent).toBe('wait')
    await fill([{ id: 1, title: 'a' }])
    expect(box.textContent).toBe('A')
    expect(talk.sent.filter(({ type }) => type === 'subscribe').length).toBe(1)
  })

  test('throws what makes a result impossible', async () => {
    await render(<Waiting />)
    await greet()
    await act(async () => talk.say({ type: 'error', id: '1', code: 'forbidden', message: 'not for you' }))
    expect(box.textContent).toBe('caught not for you')
    // Whoever tries again later asks again.
    await act(async () => new Promise((resolve) => setTimeout(resolve, 5)))
    const again = document.createElement('div')
    const root = createRoot(again)
    roots.push(root)
    await act(async () => root.render(<WalcastProvider client={talk.client}><Waiting /></WalcastProvider>))
    expect(again.textContent).toBe('wait')
    await fill([{ id: 1, title: 'a' }])
    expect(again.textContent).toBe('a')
  })

  test('throws what makes a connection impossible', async () => {
    await render(<Waiting />)
    await act(async () => {
      await promises()
      talk.socket.end(4501, 'go away')
    })
    expect(box.textContent).toBe('caught go away')
  })

  test('of a render that is thrown away leaves nothing behind', async () => {
    const root = await render(<Waiting />)
    await act(async () => root.render(null))
    await greet()
    await fill([])
    talk.platform.pass(5001)
    expect(talk.sent.filter(({ type }) => type === 'unsubscribe').length).toBe(1)
  })
})

describe('useRow', () => {
  test('renders the line of a row alone', async () => {
    const renders: Record<string, number> = {}
    const count = (name: string): void => void (renders[name] = (renders[name] ?? 0) + 1)
    const query = { table: 'task' } as const
    const Line = memo(function Line({ id }: { id: number }): ReactNode {
      const row = useRow({ table: 'task' }, id)
      count(`line ${id}`)
      return <li>{row?.title}</li>
    })
    const List = (): ReactNode => {
      const ids = useLiveQuery(query, { select: ({ rows }) => rows.map(({ id }) => id), isEqual: (a, b) => a.join() === b.join() })
      count('list')
      return ids.map((id) => <Line key={id} id={id} />)
    }
    await render(<List />)
    await greet()
    const id = await fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    const before = { ...renders }
    await tx('0/200', [{ id, op: 'update', row: { id: 2, title: 'c' } }])
    expect(box.textContent).toBe('ac')
    expect(renders).toEqual({ ...before, 'line 2': before['line 2']! + 1 })
    await tx('0/300', [{ id, op: 'delete', key: { id: 1 } }])
    expect(box.textContent).toBe('c')
  })
})

describe('on a server', () => {
  const Page = (): ReactNode => <p>{useLiveQuery({ table: 'task' }).rows.map(({ title }) => title).join()}</p>

  test('a page is rendered with what a query gave, hydrates without a warning, and gets only the difference', async () => {
    const asked = talk.client.query({ table: 'task' })
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    const initial = JSON.parse(JSON.stringify((await asked).dehydrated))
    const server = new Talk()
    const element = (client: Talk): ReactNode => (
      <WalcastProvider client={client.client} initial={[initial]}>
        <Page />
      </WalcastProvider>
    )
    box.innerHTML = renderToString(element(server))
    expect(box.innerHTML).toBe('<p>a</p>')
    expect(server.platform.sockets.length).toBe(0)

    const browser = new Talk()
    await act(async () => void roots.push(hydrateRoot(box, element(browser))))
    expect(box.innerHTML).toBe('<p>a</p>')
    await act(() => browser.greet())
    expect(browser.sent).toEqual([{ type: 'subscribe', id: '1', table: 'task', from: '0/100', epoch: 'e1' }])
    await act(async () => {
      browser.accept()
      browser.tx('0/200', [{ id: '1', op: 'insert', row: { id: 2, title: 'b' } }], { id: '1' })
      browser.say({ type: 'live', id: '1', position: '0/200' })
    })
    expect(box.innerHTML).toBe('<p>a,b</p>')
    expect(errors).not.toHaveBeenCalled()
  })

  test('what a page was given is not shown to who logs in after somebody has logged out', async () => {
    const initial = { query: JSON.stringify({ table: 'task' }), key: ['id'], columns: COLUMNS, rows: [{ id: 1, title: 'a' }], place: { position: '0/100', epoch: 'e1' } }
    const root = createRoot(box)
    roots.push(root)
    const show = (page: ReactNode): Promise<void> => act(async () => root.render(<WalcastProvider client={talk.client} initial={[initial]}>{page}</WalcastProvider>))
    await show(<Page />)
    expect(box.innerHTML).toBe('<p>a</p>')
    await show(null)
    await act(async () => void (await talk.client.setToken(null)))
    talk.platform.pass(5001)
    await show(<Page />)
    expect(box.innerHTML).toBe('<p></p>')
  })

  test('without one, the page is empty, also if the browser has more by the time it hydrates', async () => {
    const element = (
      <WalcastProvider client={talk.client}>
        <Page />
      </WalcastProvider>
    )
    box.innerHTML = renderToString(element)
    expect(box.innerHTML).toBe('<p></p>')
    talk.client.liveQuery({ table: 'task' }).onChange(() => {})
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    await act(async () => void roots.push(hydrateRoot(box, element)))
    expect(box.innerHTML).toBe('<p>a</p>')
    expect(errors).not.toHaveBeenCalled()
  })
})

test('useConnection and useWalcast give the client and how it is', async () => {
  const Show = (): ReactNode => `${useConnection().name} ${useWalcast() === talk.client}`
  await render(<Show />)
  expect(box.textContent).toBe('idle true')
  await act(async () => talk.client.connect())
  expect(box.textContent).toBe('connecting true')
  await greet()
  expect(box.textContent).toBe('open true')
})
