/** One socket for all tabs of an application. */
import type { SocketClass, SocketLike } from '../index.js'

export interface TabsOptions {
  /** Whose tabs share, such as the user's id: tabs with other names, or of other servers, have a connection of their own. */
  readonly name?: string
}

/** What of the browser is used; tests have one of their own. */
export interface Browser {
  readonly locks?: Pick<LockManager, 'request'>
  readonly channel?: (name: string) => Pick<BroadcastChannel, 'postMessage' | 'onmessage'>
  readonly document?: Pick<Document, 'hidden' | 'addEventListener'>
}

type Post = { readonly from: string; readonly to?: string } & (
  | { readonly type: 'ask' | 'open' | 'over' | 'bye' }
  /** The leader is there; `hello` if it has a connection. */
  | { readonly type: 'here'; readonly hiddenFor: number; readonly hello?: string | undefined }
  /** A message to the server, or from it. */
  | { readonly type: 'up' | 'down'; readonly text: string }
)

/** A tab that uses the leader's connection. */
interface Member {
  readonly ids: Set<string>
  /** It has a part of a transaction, and waits for the end. */
  isPart: boolean
}

/** A leader that does not answer for so long is one no more. */
const ANSWER_MS = 3000
/** So is one that has no connection and does not try to have one, which may be between two of them. */
const IDLE_MS = 2000
const ASK_EVERY_MS = 5000
/** A visible tab takes over from one that is hidden for so long. */
const HIDDEN_MS = 60_000
const PROGRESS_MS = 1000

/** Begins the names of tabs, so that none is what a client calls something. */
const MARK = '~'

/**
 * Has the tabs of an application share one connection. One of them, which Web Locks elect, has it; the others send and
 * receive through it over a BroadcastChannel. Each has its own queries and rows, and goes on from its own place when
 * another tab takes over. Where the browser has no Web Locks (pages without https have none), each tab has a connection.
 */
export function tabs({ name: whose = '' }: TabsOptions = {}, browser: Browser = here()): (socket: SocketClass | undefined) => SocketClass | undefined {
  return (Real) => {
    const { locks, channel } = browser
    if (!Real || !locks || !channel) return Real
    const byUrl = new Map<string, Tab>()
    const make = (url: string, protocol?: string): Tab => new Tab(`walcast ${whose} ${url}`, () => new Real(url, protocol), locks, channel, browser.document)
    return class extends Shared {
      constructor(url: string, protocol?: string) {
        let tab = byUrl.get(url)
        if (!tab) byUrl.set(url, (tab = make(url, protocol)))
        super(tab)
        tab.attach(this)
      }
    }
  }
}

function here(): Browser {
  const { navigator, document, BroadcastChannel: Channel } = globalThis
  return { ...(navigator?.locks && { locks: navigator.locks }), ...(Channel && { channel: (name) => new Channel(name) }), ...(document && { document }) }
}

/** A socket of the client: the real one, or one through the leader's tab. */
class Shared implements SocketLike {
  readyState = 0
  onopen: SocketLike['onopen'] = null
  onmessage: SocketLike['onmessage'] = null
  onclose: SocketLike['onclose'] = null
  onerror: SocketLike['onerror'] = null
  readonly id: string = MARK + Math.random().toString(36).slice(2, 10)
  /** Takes messages to the server, and the end. */
  up: { send(text: string): void; close(): void } | undefined
  readonly #tab: Tab

  constructor(tab: Tab) {
    this.#tab = tab
  }

  send(text: string): void {
    this.up?.send(text)
  }

  close(): void {
    this.readyState = 3
    this.#tab.detach(this)
  }

  opened(): void {
    this.readyState = 1
    this.onopen?.(undefined as never)
  }

  ended(code = 1006, reason = ''): void {
    if (this.readyState === 3) return
    this.close()
    this.onclose?.({ code, reason })
  }
}

class Tab {
  readonly #lock: string
  readonly #open: () => SocketLike
  readonly #locks: Pick<LockManager, 'request'>
  readonly #channel: Pick<BroadcastChannel, 'postMessage' | 'onmessage'>
  readonly #document: Browser['document']
  readonly #members = new Map<string, Member>()
  #socket: Shared | undefined
  /** It leads. */
  #lease: object | undefined
  #isStealing = false
  #release: (() => void) | undefined
  /** Waits for the leader to go. */
  #queue: AbortController | undefined
  #leader: string | undefined
  #hello: string | undefined
  #idle: ReturnType<typeof setTimeout> | undefined
  #hiddenSince = 0
  #progressAt = 0
  #unanswered: ReturnType<typeof setTimeout> | undefined
  #heartbeat: ReturnType<typeof setInterval> | undefined

  constructor(lock: string, open: () => SocketLike, locks: Pick<LockManager, 'request'>, channel: NonNullable<Browser['channel']>, document: Browser['document']) {
    this.#lock = lock
    this.#open = open
    this.#locks = locks
    this.#document = document
    this.#channel = channel(lock)
    this.#channel.onmessage = ({ data }: { data: Post }) => this.#hear(data)
    const looked = (): void => {
      this.#hiddenSince = document!.hidden ? Date.now() : 0
      if (!document!.hidden) this.#ask()
    }
    if (document) {
      if (document.hidden) looked()
      document.addEventListener('visibilitychange', looked)
      // A page that is kept for later holds no lock.
      globalThis.addEventListener?.('pagehide', () => this.#release?.())
    }
  }

  /** The client wants a connection. */
  attach(socket: Shared): void {
    this.#socket = socket
    clearTimeout(this.#idle)
    if (this.#lease) return this.#connect(socket)
    void this.#lead({ ifAvailable: true }).then((leads) => {
      if (!leads && this.#socket === socket) this.#follow(socket)
    })
  }

  /** It wants it no more. */
  detach(socket: Shared): void {
    if (this.#socket !== socket) return
    this.#socket = undefined
    this.#rest()
    // One that has no connection, and does not try to have one, is none to wait for.
    if (this.#lease) this.#idle = setTimeout(() => this.#release?.(), IDLE_MS)
    const { up } = socket
    socket.up = undefined
    up?.close()
  }

  /** Asks to lead. It does until it lets go, or another tab steals that. */
  #lead(options: LockOptions): Promise<boolean> {
    return new Promise((resolve) => {
      const lease = {}
      const run = (lock: Lock | null): Promise<void> | undefined => {
        const socket = this.#socket
        if (lock) this.#queue = void this.#queue?.abort()
        resolve(lock !== null && socket !== undefined)
        if (!lock || !socket) return undefined
        this.#lease = lease
        this.#rest()
        const held = new Promise<void>((release) => (this.#release = release)).then(() => this.#lost(lease))
        // What went through another tab begins anew here.
        if (socket.readyState) socket.ended()
        else {
          socket.up?.close()
          this.#connect(socket)
        }
        return held
      }
      this.#locks.request(this.#lock, options, run).catch(() => {
        this.#lost(lease)
        resolve(false)
      })
    })
  }

  #lost(lease: object): void {
    if (this.#lease !== lease) return
    this.#lease = this.#release = undefined
    this.#socket?.ended()
  }

  #rest(): void {
    clearTimeout(this.#unanswered)
    clearInterval(this.#heartbeat)
    this.#unanswered = undefined
  }

  #post(post: Post): void {
    this.#channel.postMessage(post)
  }

  #hear(post: Post): void {
    const socket = this.#socket
    if (this.#lease) this.#serve(post, socket)
    else if (socket?.up && (post.to ?? socket.id) === socket.id) this.#listen(post, socket)
  }

  // A tab that follows.

  #follow(socket: Shared): void {
    const from = socket.id
    this.#leader = undefined
    let release: (() => void) | undefined
    socket.up = {
      send: (text) => this.#post({ type: 'up', from, text }),
      close: () => {
        this.#post({ type: 'bye', from })
        release?.()
      },
    }
    // The leader gets it once this tab is gone, in whatever way.
    void this.#locks.request(`${this.#lock} ${from}`, () => {
      if (this.#socket !== socket || !socket.up) return undefined
      this.#ask()
      return new Promise<void>((resolve) => (release = resolve))
    })
    this.#heartbeat = setInterval(() => this.#document?.hidden || this.#ask(), ASK_EVERY_MS)
    if (this.#queue) return
    this.#queue = new AbortController()
    void this.#lead({ signal: this.#queue.signal })
  }

  #ask(): void {
    if (this.#lease || !this.#socket?.up) return
    this.#post({ type: 'ask', from: this.#socket.id })
    this.#unanswered ??= setTimeout(() => this.#steal(), ANSWER_MS)
  }

  #steal(): void {
    this.#rest()
    // Not from itself.
    if (this.#lease || this.#isStealing) return
    this.#isStealing = true
    void this.#lead({ steal: true }).then(() => (this.#isStealing = false))
  }

  #listen(post: Post, socket: Shared): void {
    const { type, from } = post
    const isOpen = socket.readyState === 1
    if (type === 'here') {
      clearTimeout(this.#unanswered)
      this.#unanswered = undefined
      if (post.hiddenFor >= HIDDEN_MS && this.#document?.hidden === false) this.#steal()
      else if (isOpen && from !== this.#leader) socket.ended()
      else if (!isOpen && post.hello !== undefined) {
        this.#leader = from
        socket.opened()
        socket.onmessage?.({ data: post.hello })
      }
    } else if (type === 'open') {
      if (!isOpen) this.#ask()
      else if (from !== this.#leader) socket.ended()
    } else if (isOpen && from === this.#leader) {
      if (type === 'over') socket.ended()
      else if (type === 'down') socket.onmessage?.({ data: post.text })
    }
  }

  // The tab that leads.

  #connect(socket: Shared): void {
    const from = socket.id
    let real: SocketLike
    try {
      real = this.#open()
    } catch {
      return queueMicrotask(() => socket.ended())
    }
    real.onopen = () => socket.opened()
    real.onmessage = ({ data }) => this.#down(socket, String(data))
    real.onclose = ({ code, reason }) => socket.ended(code, reason)
    real.onerror = () => {}
    socket.up = {
      send: (text) => real.send(text),
      close: () => {
        real.onopen = real.onmessage = real.onclose = null
        real.close()
        this.#hello = undefined
        this.#members.clear()
        this.#post({ type: 'over', from })
      },
    }
  }

  #serve(post: Post, socket: Shared | undefined): void {
    const { type, from } = post
    const member = this.#members.get(from)
    if (type === 'ask') {
      const hello = this.#hello
      if (hello !== undefined && !member) {
        this.#members.set(from, { ids: new Set(), isPart: false })
        void this.#locks.request(`${this.#lock} ${from}`, () => this.#gone(from))
      }
      this.#post({ type: 'here', from: socket?.id ?? '', to: from, hiddenFor: this.#hiddenSince && Date.now() - this.#hiddenSince, hello })
    } else if (type === 'bye') this.#gone(from)
    else if (type === 'up' && member) {
      const message = JSON.parse(post.text) as { type: string; id?: string; ref?: unknown }
      const { id, ref = null } = message
      // The connection has the leader's token.
      if (message.type === 'auth') return
      if (message.type === 'subscribe') member.ids.add(id!)
      socket?.up?.send(JSON.stringify({ ...message, ...(id === undefined ? { ref: `${from}:${JSON.stringify(ref)}` } : { id: `${from}:${id}` }) }))
    }
  }

  #gone(from: string): void {
    const member = this.#members.get(from)
    this.#members.delete(from)
    for (const id of member?.ids ?? []) this.#socket?.up?.send(JSON.stringify({ type: 'unsubscribe', id: `${from}:${id}` }))
  }

  /** A message of the server: for this tab, for another one, or for all. */
  #down(socket: Shared, text: string): void {
    const from = socket.id
    const isNew = this.#hello === undefined
    if (!isNew && this.#members.size === 0 && !text.includes(MARK)) return void socket.onmessage?.({ data: text })
    const frame = parse(text)
    const { type, id, ref, changes = [], more } = frame
    const whose = split(id ?? ref)
    if (whose) {
      const [to, own] = whose
      const member = this.#members.get(to)
      if (type === 'unsubscribed' || type === 'error') member?.ids.delete(own)
      const mine = changes.map((change) => ({ ...change, id: own }))
      if (member) this.#post({ type: 'down', from, to, text: JSON.stringify({ ...frame, ...(id === undefined ? { ref: parse(own) } : { id: own }), ...(frame.changes && { changes: mine }) }) })
      return
    }
    let own = text
    if (type === 'hello' && isNew) {
      this.#hello = text
      this.#post({ type: 'open', from })
    } else if (type === 'progress') this.#post({ type: 'down', from, text })
    else if (type === 'tx' && id === undefined) {
      const theirs = new Map<string, unknown[]>()
      const mine = changes.filter((change) => {
        const [to, id] = split(change.id) ?? []
        if (to === undefined) return true
        theirs.set(to, [...(theirs.get(to) ?? []), { ...change, id }])
        return false
      })
      if (mine.length < changes.length) own = JSON.stringify({ ...frame, changes: mine })
      for (const [to, member] of this.#members) {
        // Who has a part is told of the end.
        const changes = theirs.get(to) ?? (member.isPart && !more ? [] : undefined)
        if (!changes) continue
        member.isPart = more === true
        this.#post({ type: 'down', from, to, text: JSON.stringify({ ...frame, changes }) })
      }
      if (!more && Date.now() - this.#progressAt >= PROGRESS_MS) {
        this.#progressAt = Date.now()
        this.#post({ type: 'down', from, text: JSON.stringify({ type: 'progress', position: frame.position }) })
      }
    }
    socket.onmessage?.({ data: own })
  }
}

interface Frame {
  readonly type?: string
  readonly id?: string
  readonly ref?: unknown
  readonly position?: string
  readonly more?: true
  readonly changes?: readonly { readonly id: string }[]
}

const parse = (text: string): Frame => {
  try {
    return JSON.parse(text) as Frame
  } catch {
    // The client says what is wrong with it.
    return {}
  }
}

/** The tab and its own name, of a name on the connection that is a tab's. */
function split(name: unknown): readonly [string, string] | undefined {
  if (typeof name !== 'string' || !name.startsWith(MARK)) return undefined
  const i = name.indexOf(':')
  return [name.slice(0, i), name.slice(i + 1)]
}
