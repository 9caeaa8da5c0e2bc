import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Browser, type Page, chromium } from 'playwright-core'
import { Server, WALCAST, eventually, freePort } from '../../client/test/server/server.js'

const CHROMIUM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
if (WALCAST && !CHROMIUM) console.warn('There is no Chromium (CHROMIUM names one): the tests in a browser are left out.')

/** True if there is a server to show, and a browser to show it in. */
export const HAS_BROWSER = Boolean(WALCAST && CHROMIUM)

/** The console of a real server, and a browser to open it in. */
export class Site {
  readonly server = new Server()
  origin!: string
  browser!: Browser
  /** Errors of pages, and refusals of their policy. */
  readonly complaints: string[] = []

  async start(schema: string): Promise<void> {
    // A build for debugging has the console from here, and not what it was built with.
    process.env.WALCAST_CONSOLE_DIR = fileURLToPath(new URL('../dist', import.meta.url))
    const port = await freePort()
    this.origin = `http://127.0.0.1:${port}`
    await this.server.start(schema, { 'admin-listen': `127.0.0.1:${port}`, 'max-frame-bytes': '256KiB' })
    await this.ready()
    this.browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] })
  }

  /** Waits until the server, which listens, also serves: until then it answers 503, which a page would complain of. */
  async ready(): Promise<void> {
    await eventually('the server is ready', async () => (await fetch(`${this.origin}/health/ready`)).ok || undefined)
  }

  /** Opens the console at a place (`#query?table=…`). */
  async open(hash: string, options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
    const page = await context.newPage()
    page.on('pageerror', (error) => this.complaints.push(String(error)))
    page.on('console', (message) => {
      // A server that is away is one of the tests.
      if (message.type() === 'error' && !/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection/.test(message.text())) this.complaints.push(message.text())
    })
    await page.goto(`${this.origin}/${hash}`)
    return page
  }

  async stop(): Promise<void> {
    await this.browser?.close()
    await this.server.stop()
  }
}
