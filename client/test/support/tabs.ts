import type { Browser } from '../../src/tabs/index.js'
import type { SocketLike } from '../../src/index.js'
import type { Heard, Opened, PageEvent, Platform } from '../../src/socket.js'
import type { FakeSocket } from './platform.js'

interface Held {
  readonly tab: number
  end(reason?: Error): void
}

/** What the tabs of one browser have in common: locks and channels. A tab can be ended, or frozen, at any moment. */
export class FakeBrowser {
  readonly #held = new Map<string, Held>()
  readonly #waiting: { readonly tab: number; readonly name: string; grant(): void }[] = []
  readonly #channels: { readonly tab: number; readonly name: string; onmessage: any }[] = []
  readonly #ended = new Set<number>()
  /** What is to happen in tabs that are frozen, once they go on. */
  readonly #frozen = new Map<number, (() => void)[]>()

  tab(tab: number, document: { hidden: boolean } = { hidden: false }): Browser & { look(hidden: boolean): void } {
    const looked: (() => void)[] = []
    const shown = { ...document, addEventListener: (_: string, run: () => void) => void looked.push(run) }
    return {
      locks: { request: (...args: any[]) => new Promise((resolve, reject) => this.#in(tab, () => this.#request(tab, args[0], args.length > 2 ? args[1] : {}, args.at(-1)).then((value) => this.#in(tab, () => resolve(value)), (error) => this.#in(tab, () => reject(error))))) } as never,
      channel: (name) => {
        const own = { tab, name, onmessage: null, postMessage: (data: unknown) => this.#post(own, data) }
        this.#channels.push(own)
        return own as never
      },
      document: shown as never,
      look: (hidden) => {
        shown.hidden = hidden
        for (const run of looked) run()
      },
    }
  }

  /** The tab crashes: its locks are free, and nothing is heard of it any more. */
  end(tab: number): void {
    this.#ended.add(tab)
    for (const held of [...this.#held.values()]) if (held.tab === tab) held.end()
  }

  freeze(tab: number): void {
    if (!this.#frozen.has(tab)) this.#frozen.set(tab, [])
  }

  thaw(tab: number): boolean {
    const late = this.#frozen.get(tab)
    this.#frozen.delete(tab)
    for (const run of late ?? []) run()
    return late !== undefined
  }

  /** Does something in a tab, now or once it goes on. */
  #in(tab: number, run: () => void): void {
    const late = this.#frozen.get(tab)
    if (late) late.push(() => this.#in(tab, run))
    else if (!this.#ended.has(tab)) run()
  }

  #post(from: { tab: number; name: string }, data: unknown): void {
    const sent = structuredClone(data)
    this.#in(from.tab, () =>
      queueMicrotask(() => {
        for (const channel of this.#channels) {
          if (channel !== from && channel.name === from.name) this.#in(channel.tab, () => channel.onmessage?.({ data: structuredClone(sent) }))
        }
      }),
    )
  }

  #request(tab: number, name: string, options: { ifAvailable?: boolean; steal?: boolean; signal?: AbortSignal }, run: (lock: object | null) => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const grant = (): void => {
        let isOver = false
        const end = (reason?: Error): void => {
          if (isOver) return
          isOver = true
          if (this.#held.get(name) === held) this.#held.delete(name)
          if (reason) reject(reason)
          else resolve(undefined)
          this.#next(name)
        }
        const held: Held = { tab, end }
        this.#held.set(name, held)
        queueMicrotask(() => {
          if (this.#ended.has(tab)) return end()
          this.#in(tab, () => isOver || void Promise.resolve(run({ name })).then(() => end(), end))
        })
      }
      const holder = this.#held.get(name)
      if (options.steal) {
        grant()
        holder?.end(Object.assign(new Error('stolen'), { name: 'AbortError' }))
      } else if (!holder) grant()
      else if (options.ifAvailable) queueMicrotask(() => Promise.resolve(run(null)).then(resolve, reject))
      else {
        const waiting = { tab, name, grant }
        this.#waiting.push(waiting)
        options.signal?.addEventListener('abort', () => {
          const i = this.#waiting.indexOf(waiting)
          if (i < 0) return
          this.#waiting.splice(i, 1)
          reject(options.signal!.reason)
        })
      }
    })
  }

  #next(name: string): void {
    if (this.#held.has(name)) return
    const i = this.#waiting.findIndex((waiting) => waiting.name === name && !this.#ended.has(waiting.tab))
    if (i >= 0) this.#waiting.splice(i, 1)[0]!.grant()
  }
}

/** A class of sockets whose other end is the test's. */
export const socketsOf = (onSocket: (socket: FakeSocket) => void, url = 'wss://example.com/'): new () => SocketLike =>
  class implements SocketLike {
    readyState = 0
    onopen: any = null
    onmessage: any = null
    onclose: any = null
    onerror: any = null
    readonly #other: FakeSocket
    constructor() {
      const other: FakeSocket = {
        url,
        sent: [],
        isOpen: true,
        onMessage: () => {},
        onLeft: () => {},
        accept: () => {
          this.readyState = 1
          this.onopen?.()
        },
        say: (frame) => other.sayText(JSON.stringify(frame)),
        sayText: (data) => void (other.isOpen && this.onmessage?.({ data })),
        end: (code = 1006, reason = '') => {
          if (!other.isOpen) return
          other.isOpen = false
          this.readyState = 3
          this.onclose?.({ code, reason })
        },
      }
      this.#other = other
      queueMicrotask(() => other.isOpen && onSocket(other))
    }
    send(text: string): void {
      if (!this.#other.isOpen) return
      const message = JSON.parse(text)
      this.#other.sent.push(message)
      this.#other.onMessage(message)
    }
    close(): void {
      this.readyState = 3
      if (!this.#other.isOpen) return
      this.#other.isOpen = false
      this.#other.onLeft()
    }
  }

/** A platform with a class of sockets, whose time is that of the fake timers. */
export class TabPlatform implements Platform {
  isEnded = false
  readonly #Socket: new (url: string) => SocketLike
  readonly #pages = new Set<(event: PageEvent) => void>()
  constructor(Socket: new (url: string) => SocketLike) {
    this.#Socket = Socket
  }
  now = (): number => Date.now()
  random = (): number => 0.5
  later(run: () => void, ms: number): () => void {
    const timer = setTimeout(() => this.isEnded || run(), ms)
    return () => clearTimeout(timer)
  }
  frame(run: () => void): void {
    setTimeout(() => this.isEnded || run(), 16)
  }
  watch(happened: (event: PageEvent) => void): () => void {
    this.#pages.add(happened)
    return () => void this.#pages.delete(happened)
  }
  page(event: PageEvent): void {
    for (const happened of this.#pages) happened(event)
  }
  open(url: string, heard: Heard): Opened {
    const socket = new this.#Socket(url)
    const unlessEnded = (run: () => void) => () => void (this.isEnded || run())
    socket.onopen = unlessEnded(() => heard.opened())
    socket.onmessage = ({ data }) => void (this.isEnded || heard.text(data))
    socket.onclose = ({ code, reason }) => void (this.isEnded || heard.closed(code, reason))
    return {
      send: (text) => void (socket.readyState === 1 && socket.send(text)),
      close: () => {
        socket.onopen = socket.onmessage = socket.onclose = null
        socket.close()
      },
    }
  }
}
