/** Requests of the console to the server: access of this page, and read-only JSON. */
import { type Connection, type Client, createClient } from '@walcast/client'
import { computed, signal } from '@preact/signals'
import { address } from './address.js'
import { sentence } from './text/format.js'

export interface Access {
  readonly version: string
  readonly token: 'none' | 'needed' | 'given'
  readonly rows: boolean
  readonly rows_refused: string | null
  readonly sources: readonly string[]
  readonly stream: string
  readonly public: string | null
  readonly metrics: string
}

const TOKEN = 'walcast.token'

/** Set while the server does not answer, with the reason. */
export const lost = signal<string | undefined>(undefined)
const refusals = signal<ReadonlyMap<object, string>>(new Map())
/** Refusals of what is asked again and again, in the server's words, while they last. */
export const problems = computed(() => [...new Set(refusals.value.values())])
/** The admin token, for as long as the tab is open. */
let token = read()
/** The token was refused. */
export const isRefused = signal(false)
/** Undefined until the server has answered. */
export const access = signal<Access | undefined>(told())

function read(): string | undefined {
  try {
    return sessionStorage.getItem(TOKEN) ?? undefined
  } catch {
    return undefined
  }
}

/** The access of those who have no token, which the page came with. */
function told(): Access | undefined {
  const content = document.querySelector<HTMLMetaElement>('meta[name="walcast-access"]')?.content
  return content && token === undefined ? (JSON.parse(content) as Access) : undefined
}

export function setToken(given: string | undefined): void {
  token = given
  try {
    if (given === undefined) sessionStorage.removeItem(TOKEN)
    else sessionStorage.setItem(TOKEN, given)
  } catch {
    // Kept in memory alone, where the browser stores nothing.
  }
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

const authorization = (): Record<string, string> => (token === undefined ? {} : { authorization: `Bearer ${token}` })

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const used = token
  let response: Response
  try {
    response = await fetch(path, { ...init, headers: { ...authorization(), ...init.headers }, cache: 'no-store' })
  } catch (error) {
    if ((error as Error).name !== 'AbortError') lost.value = 'The server does not answer.'
    throw error
  }
  lost.value = undefined
  if (response.ok) return response
  const { error } = (await response.json().catch(() => ({}))) as { error?: { code?: string; message?: string } }
  // Another token may have been given since this was asked.
  if (response.status === 401 && used === token) {
    isRefused.value = used !== undefined
    setToken(undefined)
    const known = access.value
    if (known) access.value = { ...known, token: 'needed', rows: false }
  }
  throw new ApiError(response.status, error?.code ?? String(response.status), error?.message ?? `the server answered ${response.status} to ${path}`)
}

const withSource = (path: string): string => {
  const name = source.value
  return name === undefined ? path : `${path}${path.includes('?') ? '&' : '?'}source=${encodeURIComponent(name)}`
}

export const get = async <T>(path: string, signal?: AbortSignal): Promise<T> => (await ask(withSource(path), signal ? { signal } : {})).json() as Promise<T>
export const text = async (path: string): Promise<string> => (await ask(withSource(path))).text()
export const post = async <T>(path: string, body: unknown, signal: AbortSignal): Promise<T> =>
  (await ask(withSource(path), { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' }, signal })).json() as Promise<T>

/** Asks for the access of this page. Returns whether the server answered. */
export async function refresh(): Promise<boolean> {
  const used = token
  try {
    const told = (await (await ask('/api/access')).json()) as Access
    // The token is not the server's.
    if (told.token === 'needed' && used !== undefined && used === token) {
      setToken(undefined)
      isRefused.value = true
    }
    if (JSON.stringify(told) !== JSON.stringify(access.value)) access.value = told
    return true
  } catch (error) {
    if (error instanceof ApiError) lost.value = sentence(error.message)
    return false
  }
}

/**
 * Asks again and again while the page is seen; what fails, less often than every second, and at least every five. The server's refusals are among `problems`
 * until it answers again. The first time is at once, unless `first` says in how many milliseconds. Returns what ends it.
 */
export function poll(every: number, run: () => Promise<unknown>, first = 0): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let isOver = false
  let failures = 0
  const tell = (problem: string | undefined): void => {
    if (refusals.peek().get(next) === problem) return
    const others = new Map(refusals.peek())
    if (problem === undefined) others.delete(next)
    else others.set(next, problem)
    refusals.value = others
  }
  const next = async (): Promise<void> => {
    if (!document.hidden) {
      try {
        await run()
        failures = 0
        tell(undefined)
      } catch (error) {
        failures++
        // Without its token the page asks for that.
        if (error instanceof ApiError && error.status !== 401 && !isOver) tell(error.message)
      }
    }
    if (!isOver) timer = setTimeout(next, failures === 0 ? every : Math.min(every * 2 ** failures, 5000))
  }
  if (first > 0) timer = setTimeout(next, first)
  else void next()
  return () => {
    isOver = true
    clearTimeout(timer)
    tell(undefined)
  }
}

/** The source that is shown: the address' if there is one of that name, else the first; undefined where there is one alone. */
export const source = computed(() => {
  const names = access.value?.sources ?? []
  const { source: asked } = address.value
  return names.length === 0 ? undefined : asked !== undefined && names.includes(asked) ? asked : names[0]
})

/** The address of the source that is shown, as clients take it. */
export const url = computed(() => {
  const told = access.value
  const all = told?.public ?? `${location.origin.replace(/^http/, 'ws')}${told?.stream ?? ''}`
  return source.value === undefined ? all : `${all}/${source.value}`
})

/** The client of the source that is shown, while rows may be seen. */
let current: { client: Client; of: string; end: () => void } | undefined
export const connection = signal<Connection>({ name: 'idle' })

export const client = computed<Client | undefined>(() => {
  const told = access.value
  const of = told?.rows ? `${told.stream}${source.value === undefined ? '' : `/${encodeURIComponent(source.value)}`}` : ''
  if (current?.of === of) return current.client
  current?.end()
  current = undefined
  connection.value = { name: 'idle' }
  if (!of) return undefined
  const made = createClient(of, {
    // Each listener collects what came and draws once for each picture.
    batch: 'transaction',
    connect: 'now',
    linger: 1000,
    ...(token !== undefined && { token }),
    backoff: { first: 300, most: 5000 },
    // The query bar has those of its query from `/api/parse`, and Tables those of each table.
    onWarning: () => {},
  })
  const unlisten = made.onConnection((now) => (connection.value = now))
  const end = (): void => {
    unlisten()
    void made.close()
  }
  current = { client: made, of, end }
  return made
})
