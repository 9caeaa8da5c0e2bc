// What a React table of 10,000 rows costs a browser while 1,000 of them change each second, through the real server:
//   WALCAST=../target/release/walcast node bench/table.mjs [seconds]
// Needs chromium (CHROMIUM names it) and Postgres. Prints frames, script and heap.
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const seconds = Number(process.argv[2] ?? 30)
const bundled = async (entry, platform, external = []) => {
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format: 'esm', platform, external, minify: platform === 'browser', jsx: 'automatic', define: { 'process.env.NODE_ENV': '"production"' }, logLevel: 'error' })
  return outputFiles[0].text
}
const { Server } = await import(`data:text/javascript,${encodeURIComponent((await bundled('test/server/server.ts', 'node', ['pg'])).replace(/from "pg"/, `from ${JSON.stringify(import.meta.resolve('pg'))}`).replace('process.env.NODE_ENV', '""'))}`)

const script = await bundled('bench/table.tsx', 'browser')
const pages = createServer((request, response) => {
  response.setHeader('content-type', request.url === '/table.js' ? 'text/javascript' : 'text/html')
  response.end(request.url === '/table.js' ? script : '<!doctype html><div id="root"></div><script type="module" src="/table.js"></script>')
}).listen(0, '127.0.0.1')
await new Promise((resolve) => pages.once('listening', resolve))
const origin = `http://127.0.0.1:${pages.address().port}`

const server = new Server()
let browser
let isOver = false
try {
  await server.start('CREATE TABLE item (id int PRIMARY KEY, name text, n int NOT NULL); ALTER TABLE item REPLICA IDENTITY FULL; INSERT INTO item SELECT g, md5(g::text), 0 FROM generate_series(1, 10000) g', { 'allow-origin': origin })
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--enable-precise-memory-info', '--js-flags=--expose-gc'] })
  const page = await browser.newPage()
  const began = Date.now()
  await page.goto(`${origin}/?url=${encodeURIComponent(server.url)}`)
  await page.waitForSelector('tbody tr')
  console.log(`rows on the screen after ${Date.now() - began} ms`)

  // Ten rows a transaction, a hundred transactions a second.
  const start = Date.now()
  let written = 0
  const writing = (async () => {
    while (!isOver) {
      const due = Math.floor((Date.now() - start) / 10)
      while (written < due && !isOver) {
        const ids = Array.from({ length: 10 }, () => 1 + Math.floor(Math.random() * 10_000))
        await server.pool.query('UPDATE item SET n = n + 1 WHERE id = ANY($1)', [ids])
        written++
      }
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  })()
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
  const session = await page.context().newCDPSession(page)
  await session.send('Performance.enable')
  const metrics = async () => {
    await page.evaluate(() => globalThis.gc())
    return Object.fromEntries((await session.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]))
  }
  await new Promise((resolve) => setTimeout(resolve, 3000))
  await page.evaluate(() => void (globalThis.frames_.length = globalThis.long_.length = 0))
  const [before, writtenBefore, at] = [await metrics(), written, Date.now()]
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const [{ frames, long }, rate] = [await page.evaluate(() => ({ frames: globalThis.frames_, long: globalThis.long_ })), ((written - writtenBefore) * 10_000) / (Date.now() - at)]
  const after = await metrics()
  frames.sort((a, b) => a - b)
  const share = (frames.filter((ms) => ms <= 17).length / frames.length) * 100
  console.log(`${rate.toFixed(0)} changes a second for ${seconds} s; ${frames.length} frames`)
  console.log(`frames within 17 ms: ${share.toFixed(1)}%; median ${frames[frames.length >> 1].toFixed(1)}, 99% ${frames[Math.floor(frames.length * 0.99)].toFixed(1)} ms; tasks above 50 ms: ${long.length}`)
  console.log(`script: ${(((after.ScriptDuration - before.ScriptDuration) * 1000) / frames.length).toFixed(2)} ms a frame; all tasks ${(((after.TaskDuration - before.TaskDuration) * 1000) / frames.length).toFixed(2)} ms`)
  console.log(`heap after gc: ${(before.JSHeapUsedSize / 1e6).toFixed(1)} MB at first, ${(after.JSHeapUsedSize / 1e6).toFixed(1)} MB at last; ${after.Nodes} nodes`)
  isOver = true
  await writing
  const { rows } = await server.pool.query('SELECT sum(n)::text AS sum FROM item')
  await page.waitForFunction((sum) => document.getElementById('sum').textContent === sum, rows[0].sum)
  console.log(`all ${rows[0].sum} changes are on the page`)
} finally {
  isOver = true
  await browser?.close()
  await server.stop()
  pages.close()
}
