import type { Heard, Opened, PageEvent, Platform } from '../../src/socket.js'

/** A socket as its server sees it. */
export interface FakeSocket {
  readonly url: string
  /** What the client sent, in order. */
  readonly sent: any[]
  isOpen: boolean
  /** Called for each message of the client. */
  onMessage: (message: any) => void
  /** Called when the client leaves. */
  onLeft: () => void
  accept(): void
  say(frame: unknown): void
  sayText(text: unknown): void
  end(code?: number, reason?: string): void
}

/** A platform whose time passes by `pass`, and whose pictures come by `paint`. Everything is deterministic. */
export class FakePlatform implements Platform {
  time = 1_000_000
  chance = 0.5
  readonly sockets: FakeSocket[] = []
  /** Gets each new socket; without it, they are left to the test. */
  onSocket: (socket: FakeSocket) => void = () => {}
  #timers: { at: number; run: () => void }[] = []
  #frames: (() => void)[] = []
  #pages = new Set<(event: PageEvent) => void>()

  now = (): number => this.time
  random = (): number => this.chance

  later(run: () => void, ms: number): () => void {
    const timer = { at: this.time + ms, run }
    this.#timers.push(timer)
    return () => void (this.#timers = this.#timers.filter((other) => other !== timer))
  }

  frame(run: () => void): void {
    this.#frames.push(run)
  }

  watch(happened: (event: PageEvent) => void): () => void {
    this.#pages.add(happened)
    return () => void this.#pages.delete(happened)
  }

  page(event: PageEvent): void {
    for (const happened of this.#pages) happened(event)
  }

  /** Timers that are set. */
  get timers(): number {
    return this.#timers.length
  }

  get socket(): FakeSocket {
    const last = this.sockets.at(-1)
    if (!last) throw new Error('no socket was opened')
    return last
  }

  /** Lets time pass, and timers run in their order. */
  pass(ms: number): void {
    const end = this.time + ms
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (!due) break
      this.#timers = this.#timers.filter((other) => other !== due)
      this.time = Math.max(this.time, due.at)
      due.run()
    }
    this.time = end
  }

  /** The machine sleeps: time passes and no timer runs. */
  sleep(ms: number): void {
    this.time += ms
  }

  paint(): void {
    for (const run of this.#frames.splice(0)) run()
  }

  open(url: string, heard: Heard): Opened {
    const socket: FakeSocket = {
      url,
      sent: [],
      isOpen: true,
      onMessage: () => {},
      onLeft: () => {},
      accept: () => heard.opened(),
      say: (frame) => socket.sayText(JSON.stringify(frame)),
      sayText: (text) => {
        if (socket.isOpen) heard.text(text)
      },
      end: (code = 1006, reason = '') => {
        if (!socket.isOpen) return
        socket.isOpen = false
        heard.closed(code, reason)
      },
    }
    this.sockets.push(socket)
    queueMicrotask(() => this.onSocket(socket))
    return {
      send: (text) => {
        if (!socket.isOpen) return
        const message = JSON.parse(text)
        socket.sent.push(message)
        socket.onMessage(message)
      },
      close: () => {
        if (!socket.isOpen) return
        socket.isOpen = false
        socket.onLeft()
      },
    }
  }
}

/** Lets what was promised happen. */
export const promises = async (): Promise<void> => {
  for (let i = 0; i < 10; i++) await Promise.resolve()
}
