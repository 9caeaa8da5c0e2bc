// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type PageEvent, type SocketLike, platform } from '../src/socket.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const hidden = (isHidden: boolean): void => void vi.spyOn(document, 'hidden', 'get').mockReturnValue(isHidden)

describe('pictures', () => {
  test('are waited for while the page is seen, and are a quarter of a second apart while it is hidden', () => {
    const pictures: FrameRequestCallback[] = []
    vi.spyOn(globalThis, 'requestAnimationFrame').mockImplementation((run) => pictures.push(run))
    const run = vi.fn()
    hidden(false)
    platform().frame(run)
    vi.advanceTimersByTime(100)
    expect(run).not.toHaveBeenCalled()
    pictures[0]!(0)
    vi.advanceTimersByTime(1000)
    expect(run).toHaveBeenCalledTimes(1)

    hidden(true)
    platform().frame(run)
    expect(pictures.length).toBe(1)
    vi.advanceTimersByTime(249)
    expect(run).toHaveBeenCalledTimes(1)
    vi.advanceTimersByTime(1)
    expect(run).toHaveBeenCalledTimes(2)
  })

  test('that never come since the page is hidden meanwhile are not waited for', () => {
    vi.spyOn(globalThis, 'requestAnimationFrame').mockImplementation(() => 0)
    hidden(false)
    const run = vi.fn()
    platform().frame(run)
    vi.advanceTimersByTime(250)
    expect(run).toHaveBeenCalledTimes(1)
  })
})

test('what happens to the page is told, until one does not want to know any more', () => {
  const heard: PageEvent[] = []
  const end = platform().watch((event) => heard.push(event))
  for (const name of ['online', 'offline', 'pagehide', 'pageshow']) globalThis.dispatchEvent(new Event(name))
  hidden(true)
  document.dispatchEvent(new Event('visibilitychange'))
  hidden(false)
  document.dispatchEvent(new Event('visibilitychange'))
  expect(heard).toEqual(['woke', 'offline', 'away', 'back', 'woke'])
  end()
  globalThis.dispatchEvent(new Event('online'))
  expect(heard.length).toBe(5)
})

describe('a socket', () => {
  class Socket implements SocketLike {
    static last: Socket
    readyState = 0
    sent: string[] = []
    onopen: (() => void) | null = null
    onmessage: ((event: { data: unknown }) => void) | null = null
    onclose: ((event: { code: number; reason: string }) => void) | null = null
    onerror: (() => void) | null = null
    close = vi.fn()
    constructor(
      readonly url: string,
      readonly protocol?: string,
    ) {
      Socket.last = this
    }
    send(text: string): void {
      this.sent.push(text)
    }
  }
  const heard = () => ({ opened: vi.fn<() => void>(), text: vi.fn<(data: unknown) => void>(), closed: vi.fn<(code: number, reason: string) => void>() })

  test('speaks walcast.v1, and sends only while it is open', () => {
    const to = heard()
    const opened = platform(Socket).open('ws://x/', to)
    const socket = Socket.last
    expect([socket.url, socket.protocol]).toEqual(['ws://x/', 'walcast.v1'])
    opened.send('too early')
    socket.readyState = 1
    socket.onopen!()
    opened.send('a')
    socket.onmessage!({ data: 'b' })
    socket.onerror!()
    socket.readyState = 3
    opened.send('too late')
    socket.onclose!({ code: 1006, reason: '' })
    expect(socket.sent).toEqual(['a'])
    expect(to.opened).toHaveBeenCalledTimes(1)
    expect(to.text).toHaveBeenCalledWith('b')
    expect(to.closed).toHaveBeenCalledWith(1006, '')
  })

  test('that was left says nothing any more', () => {
    const opened = platform(Socket).open('ws://x/', heard())
    const socket = Socket.last
    opened.close()
    expect([socket.onopen, socket.onmessage, socket.onclose]).toEqual([null, null, null])
    expect(socket.close).toHaveBeenCalledTimes(1)
  })
})

test('timers of a month do not run at once', () => {
  const run = vi.fn()
  const cancel = platform().later(run, 2 ** 32)
  vi.advanceTimersByTime(2 ** 31 - 2)
  expect(run).not.toHaveBeenCalled()
  cancel()
  vi.advanceTimersByTime(10)
  expect(run).not.toHaveBeenCalled()
})
