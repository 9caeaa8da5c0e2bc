import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Example } from './example.js'

const example = new Example()
let ann: Page
let bob: Page

const lines = (page: Page) => page.locator('.history li > p')
const room = (page: Page, name: string) => page.locator('nav').getByRole('button', { name })
const member = (page: Page, name: string) => page.locator('.members').getByRole('button', { name })

async function logIn(name: string): Promise<Page> {
  const page = await example.open()
  await page.getByRole('button', { name }).click()
  await room(page, 'Kitchen').waitFor()
  await lines(page).first().waitFor()
  return page
}

beforeAll(async () => {
  await example.start('chat')
  ann = await logIn('Ann')
  bob = await logIn('Bob')
})
afterAll(() => example.stop())

test('the types of the tables are those of schema.sql', () => {
  example.stack.script('types', '--check')
})

test('one sees what one types at once, and the others see it', async () => {
  await bob.getByLabel('Message', { exact: true }).fill('I am coming')
  await ann.getByText('Bob is typing').waitFor()
  await bob.getByLabel('Message', { exact: true }).fill('')

  // While the server does not answer, the message is there already.
  let answer = () => {}
  const asked = new Promise<void>((resolve) => (answer = resolve))
  await ann.route('**/messages', async (route) => {
    if (route.request().postData()!.includes('Dinner')) await asked
    await route.continue()
  })
  await ann.getByLabel('Message', { exact: true }).fill('Dinner is ready')
  await ann.getByRole('button', { name: 'Send' }).click()
  const own = ann.getByText('Dinner is ready')
  await own.waitFor()
  expect(await ann.getByRole('listitem').filter({ hasText: 'Dinner is ready' }).getAttribute('aria-busy')).toBe('true')
  await example.shoot(ann, 'chat-sending')
  // Another one that is stored meanwhile is shown once, although React keeps all that is optimistic until all of it is over.
  await ann.getByLabel('Message', { exact: true }).fill('And hot')
  await ann.getByRole('button', { name: 'Send' }).click()
  await ann.locator('li[aria-busy=false]', { hasText: 'And hot' }).waitFor()
  expect(await ann.getByText('And hot').count()).toBe(1)
  answer()
  await bob.getByText('Dinner is ready').waitFor()
  await ann.locator('li[aria-busy=false]', { hasText: 'Dinner is ready' }).waitFor()
  expect(await own.count()).toBe(1)
})

test('a message that the server refuses is taken back, and said to be', async () => {
  await ann.route('**/messages', (route) => route.fulfill({ status: 400, json: { error: 'no' } }))
  await ann.getByLabel('Message', { exact: true }).fill('Never mind')
  await ann.getByRole('button', { name: 'Send' }).click()
  await ann.getByRole('alert').getByText('“Never mind” was not sent: no').waitFor()
  await expect.poll(() => lines(ann).filter({ hasText: 'Never mind' }).count()).toBe(0)
  await ann.unroute('**/messages')
})

test('older pages come before the newest one, and are live, too', async () => {
  const { rows } = await example.pool.query<{ text: string }>('SELECT text FROM messages WHERE room_id = 1 ORDER BY id')
  const texts = rows.map(({ text }) => text)
  for (const count of [60, 90, 102]) {
    await bob.getByRole('button', { name: 'Older messages' }).click()
    await expect.poll(() => lines(bob).allTextContents()).toEqual(texts.slice(-count - (count < 102 ? 2 : 0)))
  }
  await example.pool.query("UPDATE messages SET text = 'The very first one' WHERE id = (SELECT min(id) FROM messages)")
  await expect.poll(() => lines(bob).first().textContent()).toBe('The very first one')
  await example.shoot(bob, 'chat')
})

test('a member who is taken out of a room sees nothing of it any more, whatever the page asks for', async () => {
  await room(bob, 'Garden').click()
  await bob.getByText('The tomatoes are ripe.').waitFor()
  // Another client of Bob's, which goes on asking for the room.
  await bob.addScriptTag({
    type: 'module',
    content: `
      import { createClient, sql } from 'http://127.0.0.1:8080/client.js'
      const headers = { authorization: 'Bearer ' + sessionStorage.getItem('session') }
      globalThis.token = async () => (await (await fetch('/api/token', { headers })).json()).token
      globalThis.client = createClient('ws://127.0.0.1:8080', { token })
      client.liveQuery({ table: 'messages', where: sql\`room_id = \${2}\` }).subscribe((state) => (globalThis.state = state))
    `,
  })
  const read = () => bob.evaluate('state?.status === "live" ? state.rows.length : undefined')
  await expect.poll(read).toBe(2)

  await room(ann, 'Garden').click()
  await member(ann, 'Bob').click()
  await room(bob, 'Garden').waitFor({ state: 'detached' })
  await bob.getByText('The kettle is on.').first().waitFor()
  expect(await bob.getByText('The tomatoes are ripe.').count()).toBe(0)
  await bob.evaluate('client.setToken(token)')
  await expect.poll(read).toBe(0)
  expect(await bob.evaluate(`fetch('/api/rooms/2/messages', { method: 'POST', headers: { authorization: 'Bearer ' + sessionStorage.getItem('session') } }).then(({ status }) => status)`)).toBe(403)

  await member(ann, 'Bob').click()
  await room(bob, 'Garden').click()
  await bob.getByText('The tomatoes are ripe.').waitFor()
  // A browser notes every answer that is no success.
  expect(example.complaints.filter((line) => !/status of 40[03]/.test(line))).toEqual([])
})

test('a change that fails is said to have failed, in words that do not name the database', async () => {
  await ann.route('**/members/Cleo', (route) => route.continue({ url: route.request().url().replace('Cleo', 'Nobody') }))
  await member(ann, 'Cleo').click()
  await ann.getByRole('alert').getByText('That did not work: something went wrong').waitFor()
})

test('a message that is too long is refused with a word why', async () => {
  await ann.getByLabel('Message', { exact: true }).evaluate((input) => input.removeAttribute('maxlength'))
  await ann.getByLabel('Message', { exact: true }).fill('x'.repeat(2001))
  await ann.getByRole('button', { name: 'Send' }).click()
  await ann.getByText('was not sent: a message has 1 to 2000 characters').waitFor()
})

test('logging out ends the session on the server, too', async () => {
  const session = await bob.evaluate(() => sessionStorage.getItem('session')!)
  const token = () => ann.evaluate(async (session) => (await fetch('/api/token', { headers: { authorization: `Bearer ${session}` } })).status, session)
  expect(await token()).toBe(200)
  await bob.getByRole('button', { name: 'Log out' }).click()
  await bob.getByText('Who are you?').waitFor()
  expect(await token()).toBe(401)
  await bob.route('**/login', (route) => route.fulfill({ status: 500, json: { error: 'something went wrong' } }))
  await bob.getByRole('button', { name: 'Bob' }).click()
  await bob.getByRole('alert').getByText('You are not logged in: something went wrong').waitFor()
})
