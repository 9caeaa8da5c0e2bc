import { beforeEach, expect, test, vi } from 'vitest'

const ACCESS = { version: '0.1.0', token: 'none', rows: true, rows_refused: null, sources: [], stream: '/v1/stream', public: null, metrics: '/metrics' } as const

/** Requests that wait for their answers. */
const asked: { path: string; token: string | undefined; answer: (response: Response) => void }[] = []

/** The module as a page has it that came with this access, in a tab that keeps this token. */
function load(access: object | undefined, token?: string): Promise<typeof import('../src/server.js')> {
  vi.stubGlobal('document', { hidden: false, querySelector: () => ({ content: access === undefined ? '' : JSON.stringify(access) }) })
  const stored = new Map(token === undefined ? [] : [['walcast.token', token]])
  vi.stubGlobal('sessionStorage', { getItem: (name: string) => stored.get(name) ?? null, setItem: (name: string, value: string) => stored.set(name, value), removeItem: (name: string) => stored.delete(name) })
  return import('../src/server.js')
}

beforeEach(() => {
  vi.resetModules()
  asked.length = 0
  vi.stubGlobal('location', { hash: '', origin: 'http://127.0.0.1:9090' })
  vi.stubGlobal('addEventListener', () => {})
  vi.stubGlobal('fetch', (path: string, { headers }: { headers: Record<string, string> }) => new Promise((answer) => asked.push({ path, token: headers.authorization, answer })))
})

test('the access that the page came with is used, unless the tab has a token', async () => {
  expect((await load(ACCESS)).access.value).toEqual(ACCESS)
  vi.resetModules()
  expect((await load({ ...ACCESS, token: 'needed', rows: false }, 'secret')).access.value).toBeUndefined()
  vi.resetModules()
  expect((await load(undefined)).access.value).toBeUndefined()
})

test('a refusal that comes late says nothing of the token that was given meanwhile', async () => {
  const { access, get, isRefused, refresh, setToken } = await load({ ...ACCESS, token: 'needed', rows: false }, 'old')
  const late = get('/api/tables')
  setToken('new')
  const refreshed = refresh()
  expect(asked.map(({ path, token }) => [path, token])).toEqual([['/api/tables', 'Bearer old'], ['/api/access', 'Bearer new']])
  asked[1]!.answer(Response.json({ ...ACCESS, token: 'given' }))
  await refreshed
  asked[0]!.answer(Response.json({ error: { code: 'token', message: 'send the token' } }, { status: 401 }))
  await expect(late).rejects.toThrow('send the token')
  expect([access.value?.token, access.value?.rows, isRefused.value]).toEqual(['given', true, false])
  // One of the token that is used does.
  const refused = get('/api/tables')
  expect(asked[2]!.token).toBe('Bearer new')
  asked[2]!.answer(Response.json({ error: { code: 'token', message: 'send the token' } }, { status: 401 }))
  await expect(refused).rejects.toThrow('send the token')
  expect([access.value?.token, access.value?.rows, isRefused.value]).toEqual(['needed', false, true])
})
