import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type Browser, type Page, chromium } from 'playwright-core'
import { expect } from 'vitest'
import { PORTS, Stack, freePort } from '../support/stack.js'

const CHROMIUM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

/** The directory for screenshots, for people to look at; none are made otherwise. */
const SHOTS = process.env.SHOTS

/** An example as it stands, on free ports, and a browser that finds them where the example says they are. */
export class Example {
  readonly stack = new Stack()
  readonly #log: string[] = []
  #processes: Awaited<ReturnType<Stack['runAll']>> = []
  browser!: Browser
  pool!: pg.Pool

  /** The lines that its processes printed. */
  get log(): string {
    return this.#log.join('\n')
  }

  start(name: string): Promise<void> {
    return this.startIn(fileURLToPath(new URL(`../${name}`, import.meta.url)))
  }

  /** Starts what is in a folder. If `command` is given, it starts walcast, too. */
  async startIn(folder: string, command?: string): Promise<void> {
    const ports = { page: await freePort(), walcast: await freePort() }
    try {
      await this.stack.start(folder, { ports, walcast: !command, log: (name, line) => this.#log.push(`${name} ${line}`) })
      this.#processes = await this.stack.runAll(command ? [{ name: 'dev', command }] : undefined)
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.log}`)
    }
    this.pool = new pg.Pool({ connectionString: this.stack.url })
    this.pool.on('error', () => {})
    const rules = [`MAP localhost:${PORTS.page} 127.0.0.1:${ports.page}`, `MAP 127.0.0.1:${PORTS.walcast} 127.0.0.1:${ports.walcast}`]
    this.browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox', `--host-resolver-rules=${rules.join()}`] })
  }

  /** Waits until a process of the example's printed a line. */
  async printed(name: string, line: string): Promise<void> {
    await expect.poll(() => this.#log).toContain(`${name} ${line}`)
  }

  /** Ends a process of the example's. */
  async end(name: string): Promise<void> {
    const { child } = this.#processes.find((process) => process.name === name)!
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** Opens the page for a user of its own, after `before` on it. */
  async open(path = '/', before?: () => void): Promise<Page> {
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 760 }, reducedMotion: 'reduce' })
    const page = await context.newPage()
    page.setDefaultTimeout(40_000)
    page.on('pageerror', (error) => this.#log.push(`page ${error.stack}`))
    page.on('console', (message) => this.#log.push(`page ${message.type()} ${message.text()}`))
    if (before) await page.addInitScript(before)
    await page.goto(`http://localhost:${PORTS.page}${path}`)
    return page
  }

  /** The complaints of the browsers' consoles and of the processes. */
  get complaints(): string[] {
    return this.#log.filter((line) => /^page (error|warning|\w*Error)|^walcast .*(WARN|ERROR)/.test(line))
  }

  /** The page as it looks, if somebody wants to see it. */
  async shoot(page: Page, name: string): Promise<void> {
    if (!SHOTS) return
    const size = page.viewportSize()!
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: `${SHOTS}/${name}-${colorScheme}.png` })
    }
    await page.emulateMedia({ colorScheme: 'light' })
    await page.setViewportSize({ width: 320, height: 640 })
    await page.screenshot({ path: `${SHOTS}/${name}-320.png` })
    await page.setViewportSize(size)
  }

  async stop(): Promise<void> {
    await this.browser?.close()
    await this.pool?.end()
    await this.stack.stop()
  }
}
