import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Browser, type BrowserContext, chromium } from 'playwright-core'
import { Server, WALCAST } from './server.js'

const CHROMIUM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
if (WALCAST && !CHROMIUM) console.warn('There is no Chromium (CHROMIUM names one): the tests in a browser are left out.')

/** True if there is a server to connect to, and a browser that does. */
export const HAS_BROWSER = Boolean(WALCAST && CHROMIUM)

type LaunchOptions = Parameters<typeof chromium.launch>[0]

/** A site whose pages follow the table `task` of a real server, and a browser to open them in. */
export class Site {
  readonly server = new Server()
  origin!: string
  browser!: Browser
  context!: BrowserContext
  #pages: ReturnType<typeof createServer> | undefined

  /**
   * Starts all of it. `script` is the module at the path `module`, `html` gives the pages at other paths, and a page may
   * use scripts as `scripts` says in its policy.
   */
  async start(module: string, script: string | Uint8Array, html: (path: string) => string, scripts: string, launch: LaunchOptions = {}): Promise<void> {
    const { server } = this
    const pages = (this.#pages = createServer((request, response) => {
      const isModule = request.url === module
      response.setHeader('content-type', isModule ? 'text/javascript' : 'text/html')
      response.setHeader('content-security-policy', `default-src 'none'; script-src ${scripts}; connect-src ${server.url.replace(/\/$/, '')}; base-uri 'none'`)
      response.end(isModule ? script : html(request.url!))
    }))
    await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve))
    this.origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`
    await server.start('CREATE TABLE task (id serial PRIMARY KEY, title text); ALTER TABLE task REPLICA IDENTITY FULL', { 'allow-origin': this.origin })
    this.browser = await chromium.launch({ executablePath: CHROMIUM!, ...launch, args: ['--no-sandbox', ...(launch.args ?? [])] })
  }

  async stop(): Promise<void> {
    await this.browser?.close()
    this.#pages?.close()
    await this.server.stop()
  }

  /** Begins anew: the table has one row, and the browser knows nothing. */
  async reset(): Promise<void> {
    await this.server.pool.query('TRUNCATE task')
    this.context = await this.browser.newContext()
    await this.add('a')
  }

  async add(title: string): Promise<void> {
    await this.server.pool.query('INSERT INTO task (title) VALUES ($1)', [title])
  }

  /** The address of a page that connects to the server; `more` are its parameters beside that. */
  page(more = ''): string {
    return `${this.origin}/?url=${encodeURIComponent(this.server.url)}${more && `&${more}`}`
  }
}
