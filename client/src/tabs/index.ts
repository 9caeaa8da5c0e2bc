/** One socket for all tabs of an application. */
import type { SocketClass, SocketLike } from '../index.js'

export interface TabsOptions {
  /** Whose tabs share, such as the user's id: tabs with other names, or of other servers, have a connection of their own. */
  readonly name?: string
}

/** What of the browser is used; tests have one of their own. */
export interface Browser {
  readonly locks?: Pick<LockManager, 'request'> | undefined
  readonly channel?: ((name: string) => Pick<BroadcastChannel, 'postMessage' | 'onmessage'>) | undefined
  readonly document?: Pick<Document, 'hidden' | 'addEventListener'> | undefined
}

type Post = { readonly from: string; readonly to?: string | undefined } & (
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
    const { locks, channel, document } = browser
    if (!Real || !locks || !channel) return Real
    const byUrl = new Map<string, Tab>()
    const make = (url: string, protocol?: string): Tab => {
      const tab = join(`walcast ${whose} ${url}`, () => new Real(url, protocol), locks, channel, document)
      byUrl.set(url, tab)
      return tab
    }
    return class extends TabSocket {
      constructor(url: string, protocol?: string) {
        super(byUrl.get(url) ?? make(url, protocol))
      }
    }
  }
}

function here(): Browser {
  const { navigator, document, BroadcastChannel: Channel } = globalThis
  return { locks: navigator?.locks, channel: Channel && ((name) => new Channel(name)), document }
}

/** A socket of the client: the real one, or one through the leader's tab. */
class TabSocket implements SocketLike {
  readyState = 0
  declare onopen: SocketLike['onopen']
  declare onmessage: SocketLike['onmessage']
  declare onclose: SocketLike['onclose']
  declare onerror: SocketLike['onerror']
  readonly id: string = MARK + Math.random().toString(36).slice(2)
  /** Takes messages to the server, and the end. */
  declare up?: { send(text: string): void; close(): void } | undefined
  readonly #tab: Tab

  constructor(tab: Tab) {
    this.#tab = tab
    tab.attach(this)
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
    this.onopen?.({} as never)
  }

  ended(code = 1006, reason = ''): void {
    if (this.readyState === 3) return
    this.close()
    this.onclose?.({ code, reason })
  }
}

/** What a tab has of the connection: the sockets of its client go through it. */
interface Tab {
  /** The client wants a connection. */
  attach(socket: TabSocket): void
  /** It wants it no more. */
  detach(socket: TabSocket): void
}

function join(lock: string, open: () => SocketLike, locks: Pick<LockManager, 'request'>, channelOf: NonNullable<Browser['channel']>, document: Browser['document']): Tab {
  const channel = channelOf(lock)
  const members = new Map<string, Member>()
  let current: TabSocket | undefined
  /** It leads. */
  let lease: object | undefined
  let isStealing = false
  let release: (() => void) | undefined
  /** Waits for the leader to go. */
  let queue: AbortController | undefined
  let leader: string | undefined
  /** Of the connection, while there is one. */
  let greeting: string | undefined
  let idle: ReturnType<typeof setTimeout> | undefined
  let hiddenSince = 0
  let progressAt = 0
  let unanswered: ReturnType<typeof setTimeout> | undefined
  let heartbeat: ReturnType<typeof setInterval> | undefined

  /** Asks to lead, and waits for the answer. It leads until it lets go, or another tab steals that. */
  function lead(options: LockOptions): Promise<void> {
    return new Promise((resolve) => {
      const own = {}
      const run = (granted: Lock | null): Promise<void> | undefined => {
        const socket = current
        if (granted) queue = void queue?.abort()
        resolve()
        if (!granted || !socket) return undefined
        lease = own
        rest()
        const held = new Promise<void>((resolve) => (release = resolve)).then(() => lost(own))
        // What went through another tab begins anew here.
        if (socket.readyState) socket.ended()
        else {
          socket.up?.close()
          connect(socket)
        }
        return held
      }
      locks.request(lock, options, run).catch(() => {
        lost(own)
        resolve()
      })
    })
  }

  function lost(own: object): void {
    if (lease !== own) return
    lease = release = undefined
    current?.ended()
  }

  function rest(): void {
    answered()
    clearInterval(heartbeat)
  }

  function answered(): void {
    clearTimeout(unanswered)
    unanswered = undefined
  }

  function say(post: Post): void {
    channel.postMessage(post)
  }

  function hear(post: Post): void {
    const socket = current
    if (lease) serve(post, socket)
    else if (socket?.up && (post.to ?? socket.id) === socket.id) listen(post, socket)
  }

  // A tab that follows.

  function follow(socket: TabSocket): void {
    const from = socket.id
    leader = undefined
    let leave: (() => void) | undefined
    socket.up = {
      send: (text) => say({ type: 'up', from, text }),
      close: () => {
        say({ type: 'bye', from })
        leave?.()
      },
    }
    // The leader gets it once this tab is gone, in whatever way.
    void locks.request(`${lock} ${from}`, () => {
      if (lease || current !== socket) return undefined
      ask()
      return new Promise<void>((resolve) => (leave = resolve))
    })
    heartbeat = setInterval(() => document?.hidden || ask(), ASK_EVERY_MS)
    if (queue) return
    queue = new AbortController()
    void lead({ signal: queue.signal })
  }

  function ask(): void {
    if (lease || !current?.up) return
    say({ type: 'ask', from: current.id })
    unanswered ??= setTimeout(steal, ANSWER_MS)
  }

  function steal(): void {
    rest()
    // Not from itself.
    if (lease || isStealing) return
    isStealing = true
    void lead({ steal: true }).then(() => (isStealing = false))
  }

  function listen(post: Post, socket: TabSocket): void {
    const { type, from } = post
    const isHere = type === 'here'
    if (isHere) {
      answered()
      if (post.hiddenFor >= HIDDEN_MS && document?.hidden === false) return steal()
    }
    if (socket.readyState) {
      if (from !== leader) {
        // Another one leads by now, or did before.
        if (isHere || type === 'open') socket.ended()
      } else if (type === 'over') socket.ended()
      else if (type === 'down') socket.onmessage?.({ data: post.text })
    } else if (type === 'open') ask()
    else if (isHere && post.hello) {
      leader = from
      socket.opened()
      socket.onmessage?.({ data: post.hello })
    }
  }

  // The tab that leads.

  function connect(socket: TabSocket): void {
    const from = socket.id
    let real: SocketLike
    try {
      real = open()
    } catch {
      return queueMicrotask(() => socket.ended())
    }
    real.onopen = () => socket.opened()
    real.onmessage = ({ data }) => down(socket, String(data))
    real.onclose = ({ code, reason }) => socket.ended(code, reason)
    real.onerror = () => {}
    socket.up = {
      send: (text) => real.send(text),
      close: () => {
        real.onopen = real.onmessage = real.onclose = null
        real.close()
        greeting = undefined
        members.clear()
        say({ type: 'over', from })
      },
    }
  }

  function serve(post: Post, socket: TabSocket | undefined): void {
    const { type, from } = post
    const member = members.get(from)
    if (type === 'ask') {
      if (greeting && !member) {
        members.set(from, { ids: new Set(), isPart: false })
        void locks.request(`${lock} ${from}`, () => gone(from))
      }
      say({ type: 'here', from: socket?.id ?? '', to: from, hiddenFor: hiddenSince && Date.now() - hiddenSince, hello: greeting })
    } else if (type === 'bye') gone(from)
    else if (type === 'up' && member) {
      const message = JSON.parse(post.text) as { type: string; id?: string; ref?: unknown }
      const { id, ref = null } = message
      const own = `${from}:`
      // The connection has the leader's token.
      if (message.type === 'auth') return
      if (message.type === 'subscribe') member.ids.add(id!)
      // What is undefined is not sent.
      socket?.up?.send(JSON.stringify({ ...message, id: id && own + id, ref: id ? undefined : own + JSON.stringify(ref) }))
    }
  }

  function gone(from: string): void {
    const member = members.get(from)
    members.delete(from)
    for (const id of member?.ids ?? []) current?.up?.send(JSON.stringify({ type: 'unsubscribe', id: `${from}:${id}` }))
  }

  /** A message of the server: for this tab, for another one, or for all. */
  function down(socket: TabSocket, text: string): void {
    const from = socket.id
    const pass = (frame: object, to?: string): void => say({ type: 'down', from, to, text: JSON.stringify(frame) })
    if (greeting && !members.size && !text.includes(MARK)) return void socket.onmessage?.({ data: text })
    const frame = parse(text)
    const { type, id, ref, changes, more } = frame
    const whose = split(id ?? ref)
    if (whose) {
      const [to, own] = whose
      const member = members.get(to)
      if (type === 'unsubscribed' || type === 'error') member?.ids.delete(own)
      if (member) pass({ ...frame, id: id && own, ref: id ? undefined : parse(own), changes: changes?.map((change) => ({ ...change, id: own })) }, to)
      return
    }
    let own = text
    if (type === 'hello') {
      greeting = text
      say({ type: 'open', from })
    } else if (type === 'progress') pass(frame)
    // With `id` it is about a subscription of this tab's that catches up, elsewhere in the stream than the others.
    else if (changes && !id) {
      const theirs = new Map<string, unknown[]>()
      const mine = changes.filter((change) => {
        const whose = split(change.id)
        if (!whose) return true
        const [to, id] = whose
        theirs.set(to, [...(theirs.get(to) ?? []), { ...change, id }])
        return false
      })
      if (theirs.size) own = JSON.stringify({ ...frame, changes: mine })
      for (const [to, member] of members) {
        // Who has a part is told of the end.
        const changes = theirs.get(to) ?? (member.isPart && !more && [])
        if (!changes) continue
        member.isPart = !!more
        pass({ ...frame, changes }, to)
      }
      if (!more && Date.now() - progressAt >= PROGRESS_MS) {
        progressAt = Date.now()
        pass({ type: 'progress', position: frame.position })
      }
    }
    socket.onmessage?.({ data: own })
  }

  channel.onmessage = ({ data }: { data: Post }) => hear(data)
  if (document) {
    const looked = (): void => {
      hiddenSince = document.hidden ? Date.now() : 0
      if (!hiddenSince) ask()
    }
    looked()
    document.addEventListener('visibilitychange', looked)
    // A page that is kept for later holds no lock.
    globalThis.addEventListener?.('pagehide', () => release?.())
  }
  return {
    attach(socket) {
      current = socket
      clearTimeout(idle)
      if (lease) return connect(socket)
      void lead({ ifAvailable: true }).then(() => {
        // Also if the answer is that another tab leads, the lock may have come by the queue meanwhile.
        if (!lease && current === socket) follow(socket)
      })
    },
    detach(socket) {
      if (current !== socket) return
      current = undefined
      rest()
      // One that has no connection, and does not try to have one, is none to wait for.
      if (lease) idle = setTimeout(() => release?.(), IDLE_MS)
      const { up } = socket
      socket.up = undefined
      up?.close()
    },
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
const split = (name: unknown): readonly [string, string] | undefined => /^(~.*?):(.*)/s.exec(String(name))?.slice(1) as [string, string] | undefined
