import { WalcastError } from './error.js'

/** The part of `WebSocket` that is used: browsers, Node 22 and the package `ws` have it. */
export interface SocketLike {
  readonly readyState: number
  send(text: string): void
  close(code?: number): void
  // Any events: those of browsers and of `ws` have more than what is read here, and a class takes no event that has less.
  onopen: ((event: any) => unknown) | null
  /** With `data`. */
  onmessage: ((event: any) => unknown) | null
  /** With `code` and `reason`. */
  onclose: ((event: any) => unknown) | null
  onerror: ((event: any) => unknown) | null
}
export type SocketClass = new (url: string, protocols?: string) => SocketLike

/** Makes of a class of sockets one whose sockets are shared. */
export type Sharing = (socket: SocketClass | undefined) => SocketClass | undefined

export interface Opened {
  send(text: string): void
  close(): void
}

export interface Heard {
  opened(): void
  text(data: unknown): void
  closed(code: number, reason: string): void
}

/** There is a network or the page is seen again (`woke`), there is no network, or the page goes into the browser's cache and comes back. */
export type PageEvent = 'woke' | 'offline' | 'away' | 'back'

/** Everything that is not computed: sockets, time, chance and the page. Tests have one of their own. */
export interface Platform {
  now(): number
  random(): number
  /** Runs once after so many milliseconds; returns what takes that back. */
  later(run: () => void, ms: number): () => void
  /** Runs before the next picture, or soon where there are none. */
  frame(run: () => void): void
  open(url: string, heard: Heard): Opened
  /** Tells what happens to the page; returns what ends that. */
  watch(happened: (event: PageEvent) => void): () => void
}

/** How long one waits for a picture that may not come: a page that is hidden has none. */
const HIDDEN_MS = 250
const FRAME_MS = 16

export function platform(webSocket?: SocketClass): Platform {
  const { document } = globalThis as { document?: Document }
  const later = (run: () => void, ms: number): (() => void) => {
    // Timers of 2^31 ms and more would run at once.
    const timer = setTimeout(run, Math.min(ms, 2 ** 31 - 1))
    return () => clearTimeout(timer)
  }
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    later,
    frame(run) {
      let done = false
      const once = (): void => {
        if (!done) run()
        done = true
      }
      if (document?.hidden === false) globalThis.requestAnimationFrame?.(once)
      // A page that is hidden, or will be before the picture comes, has none.
      setTimeout(once, document ? HIDDEN_MS : FRAME_MS)
    },
    open(url, heard) {
      const Socket = webSocket ?? (globalThis.WebSocket as SocketClass | undefined)
      if (!Socket) {
        throw new WalcastError('unsupported', 'there is no WebSocket here: pass that of the package ws, as in createClient(url, { webSocket: WebSocket })')
      }
      const socket = new Socket(url, 'walcast.v1')
      socket.onopen = () => heard.opened()
      socket.onmessage = ({ data }) => heard.text(data)
      socket.onclose = ({ code, reason }) => heard.closed(code, reason)
      socket.onerror = () => {} // `close` follows, and says as much.
      return {
        send(text) {
          if (socket.readyState === 1) socket.send(text)
        },
        close() {
          socket.onopen = socket.onmessage = socket.onclose = null
          socket.close()
        },
      }
    },
    watch(happened) {
      if (!document) return () => {}
      const over = new AbortController()
      const events = { online: 'woke', offline: 'offline', pagehide: 'away', pageshow: 'back' } as const
      for (const [name, event] of Object.entries(events)) globalThis.addEventListener(name, () => happened(event), over)
      document.addEventListener('visibilitychange', () => document.hidden || happened('woke'), over)
      return () => over.abort()
    },
  }
}
