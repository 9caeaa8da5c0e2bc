// The cost of the console for a browser and the server: 10,000 rows of which 1,000 change each second, through the real server.
//   WALCAST=../target/release/walcast node bench/console.mjs [seconds, 30 if left out]
// Needs chromium (CHROMIUM names it) and Postgres. Prints what the table of docs/benchmarks.md has.
import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const seconds = Number(process.argv[2] || 30)
const { outputFiles } = await build({ entryPoints: ['../client/test/server/server.ts'], bundle: true, write: false, format: 'esm', platform: 'node', external: ['pg'], logLevel: 'error' })
const { Server, freePort } = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text.replace(/from "pg"/, `from ${JSON.stringify(import.meta.resolve('pg'))}`))}`)

const port = await freePort()
const origin = `http://127.0.0.1:${port}`
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const server = new Server()
let browser
let isOver = false

/** Seconds of processor time that the server has taken so far. */
function taken() {
  const own = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`--admin-listen=127.0.0.1:${port}`)
    } catch {
      return false
    }
  })
  const fields = readFileSync(`/proc/${own}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** The share of a core that the server takes for a while. */
async function share(ms) {
  const before = taken()
  await sleep(ms)
  return ((taken() - before) / ms) * 100_000
}

try {
  await server.start('CREATE TABLE item (id int PRIMARY KEY, name text, n int NOT NULL); ALTER TABLE item REPLICA IDENTITY FULL; INSERT INTO item SELECT g, md5(g::text), 0 FROM generate_series(1, 10000) g', { 'admin-listen': `127.0.0.1:${port}`, 'max-frame-bytes': '16KiB' })
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--enable-precise-memory-info', '--js-flags=--expose-gc'] })
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } })

  // From the navigation until the first rows can be read, and until all of them are there and the page says that it is live.
  await context.addInitScript(() => {
    const look = () => {
      if (document.querySelector('.line .cell')?.textContent) globalThis.first_ ??= performance.now()
      if (document.querySelector('.state')?.textContent === 'live' && document.querySelector('.figure b')?.textContent === '10,000') globalThis.all_ ??= performance.now()
      if (globalThis.all_ === undefined) requestAnimationFrame(look)
    }
    requestAnimationFrame(look)
  })
  for (const [name, hash] of [['a table', '#query?table=item'], ['the console', '']]) {
    const [first, all] = [[], []]
    for (let i = 0; i < 7; i++) {
      const page = await context.newPage()
      // The browser makes the tab, and clears the one before away, meanwhile.
      await sleep(1500)
      await page.goto(`${origin}/${hash}`)
      await page.waitForFunction(() => globalThis.all_ !== undefined)
      const times = await page.evaluate(() => [globalThis.first_, globalThis.all_])
      first.push(times[0])
      all.push(times[1])
      await page.close()
    }
    const told = (times) => `${times.sort((a, b) => a - b)[3].toFixed(0)} ms (median of 7; ${times.map((ms) => ms.toFixed(0)).join(', ')})`
    console.log(`${name} opened: first rows after ${told(first)}`)
    console.log(`${name} opened: all rows, and live, after ${told(all)}`)
  }

  // Ten rows a transaction, a hundred transactions a second.
  let written = 0
  const start = Date.now()
  const writing = (async () => {
    while (!isOver) {
      const due = Math.floor((Date.now() - start) / 10)
      while (written < due && !isOver) {
        const ids = Array.from({ length: 10 }, () => 1 + Math.floor(Math.random() * 10_000))
        await server.pool.query('UPDATE item SET n = n + 1 WHERE id = ANY($1)', [ids])
        written++
      }
      await sleep(2)
    }
  })()
  await sleep(2000)
  const alone = await share(10_000)

  const page = await context.newPage()
  await page.goto(`${origin}/#query?table=item`)
  await page.waitForFunction(() => document.querySelector('.figure b')?.textContent === '10,000')
  await page.evaluate(() => {
    globalThis.frames_ = []
    globalThis.long_ = []
    new PerformanceObserver((list) => globalThis.long_.push(...list.getEntries().map(({ duration }) => duration))).observe({ entryTypes: ['longtask'] })
    let last = performance.now()
    const tick = (now) => {
      globalThis.frames_.push(now - last)
      last = now
      requestAnimationFrame(tick)
    }
    requestAnimationFrame(tick)
  })
  const session = await context.newCDPSession(page)
  await session.send('Performance.enable')
  const metrics = async () => {
    await page.evaluate(() => globalThis.gc())
    return Object.fromEntries((await session.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]))
  }
  await sleep(5000)
  const before = await metrics()
  await page.evaluate(() => void (globalThis.frames_.length = globalThis.long_.length = 0))
  const [writtenBefore, at] = [written, Date.now()]
  const heaps = []
  const sampling = seconds < 120 ? undefined : setInterval(async () => {
    const { JSHeapUsedSize, Nodes } = await metrics()
    heaps.push(`${(JSHeapUsedSize / 1e6).toFixed(1)} MB and ${Nodes} nodes`)
  }, 60_000)
  const with_ = await share(seconds * 1000)
  clearInterval(sampling)
  const rate = ((written - writtenBefore) * 10_000) / (Date.now() - at)
  const { frames, long } = await page.evaluate(() => ({ frames: [...globalThis.frames_], long: [...globalThis.long_] }))
  const after = await metrics()
  const nodes = await page.evaluate(() => document.querySelectorAll('*').length)
  frames.sort((a, b) => a - b)
  // A picture is due each 16.7 ms: one of 17 is in time, the clock being as exact as that.
  const inTime = (frames.filter((ms) => ms <= 17).length / frames.length) * 100
  console.log(`${rate.toFixed(0)} changes a second for ${seconds} s; ${frames.length} frames`)
  console.log(`frames within 16.7 ms: ${inTime.toFixed(1)}%; median ${frames[frames.length >> 1].toFixed(1)}, 99% ${frames[Math.floor(frames.length * 0.99)].toFixed(1)} ms`)
  console.log(`script: ${(((after.ScriptDuration - before.ScriptDuration) * 1000) / frames.length).toFixed(2)} ms a frame; all tasks ${(((after.TaskDuration - before.TaskDuration) * 1000) / frames.length).toFixed(2)} ms`)
  console.log(`tasks above 50 ms: ${long.length}${long.length > 0 ? ` (${long.map((ms) => ms.toFixed(0)).join(', ')} ms)` : ''}`)
  console.log(`heap after gc: ${(before.JSHeapUsedSize / 1e6).toFixed(1)} MB at first, ${(after.JSHeapUsedSize / 1e6).toFixed(1)} MB at last; ${nodes} elements`)
  if (heaps.length > 0) console.log(`heap after gc, each minute: ${heaps.join('; ')}`)
  console.log(`server: ${alone.toFixed(1)}% of a core without the page, ${with_.toFixed(1)}% with it`)
  await page.evaluate(() => (location.hash = '#health'))
  await page.waitForSelector('canvas')
  await sleep(3000)
  console.log(`server: ${(await share(10_000)).toFixed(1)}% of a core with the page at Health`)

  await page.evaluate(() => (location.hash = '#query?table=item'))
  await page.waitForFunction(() => document.querySelector('.figure b')?.textContent === '10,000')
  isOver = true
  await writing
  const { rows } = await server.pool.query('SELECT n::text AS n FROM item ORDER BY id LIMIT 20')
  const expected = rows.map(({ n }) => n).join()
  await page.waitForFunction((expected) => [...document.querySelectorAll('.line:not([hidden])')].sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).slice(0, 20).map((line) => line.querySelectorAll('.cell')[2].textContent).join() === expected, expected)
  console.log('the rows on the screen are those of the database')
} finally {
  isOver = true
  await browser?.close()
  await server.stop()
}
