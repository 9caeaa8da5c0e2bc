// The chat's server: it logs people in, signs tokens for walcast, and writes. The page reads everything from walcast.
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import express from 'express'
import { SignJWT } from 'jose'
import pg from 'pg'
import { createServer as createVite } from 'vite'

const { PORT = '5173', DATABASE_URL, TOKEN_SECRET } = process.env
const secret = new TextEncoder().encode(TOKEN_SECRET)
const pool = new pg.Pool({ connectionString: DATABASE_URL })
// A connection that is lost while it is idle, as when Postgres restarts. Without a listener it would end the process.
pool.on('error', (error) => console.error(`Postgres is away: ${error.message}`))
const api = express.Router().use(express.json())

/** Writes, and says where the log was after it: the page waits for that position. */
async function write(text, values) {
  const { rowCount } = await pool.query(text, values)
  const { rows } = await pool.query('SELECT pg_current_wal_insert_lsn() AS position')
  return { rowCount, position: rows[0].position }
}

async function isMember(room, name) {
  const { rowCount } = await pool.query('SELECT FROM members WHERE room_id = $1 AND user_name = $2', [room, name])
  return rowCount === 1
}

// The names of those who are logged in, by the key that a tab got. Your application has sessions already; here a name is enough.
const sessions = new Map()

api.post('/login', async (request, response) => {
  const { name } = request.body
  const { rowCount } = await pool.query('SELECT FROM users WHERE name = $1', [name])
  if (rowCount === 0) return response.status(403).json({ error: `there is no user ${name}` })
  const session = randomUUID()
  sessions.set(session, name)
  response.json({ session })
})

api.use((request, response, next) => {
  response.locals.session = request.get('authorization')?.replace('Bearer ', '')
  response.locals.name = sessions.get(response.locals.session)
  if (response.locals.name) next()
  else response.status(401).json({ error: 'log in first' })
})

api.post('/logout', (_, response) => {
  sessions.delete(response.locals.session)
  response.json({})
})

// Five minutes: for so long somebody who is removed from a room might go on reading with a token that they kept.
api.get('/token', async (_, response) => {
  const { name } = response.locals
  const { rows } = await pool.query('SELECT room_id FROM members WHERE user_name = $1', [name])
  const claims = { sub: name, rooms: rows.map((row) => row.room_id) }
  const token = await new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setIssuedAt().setExpirationTime('5 minutes').sign(secret)
  response.json({ token })
})

// The rest is about a room, for its members.
api.param('room', async (_, response, next, room) => {
  if (await isMember(room, response.locals.name)) next()
  else response.status(403).json({ error: 'you are not in this room' })
})

api.post('/rooms/:room/messages', async (request, response) => {
  const { text, key } = request.body ?? {}
  if (typeof text !== 'string' || text.length < 1 || text.length > 2000) return response.status(400).json({ error: 'a message has 1 to 2000 characters' })
  const insert = 'INSERT INTO messages (room_id, author, text, key) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING'
  response.json(await write(insert, [request.params.room, response.locals.name, text, key]))
})

api.post('/rooms/:room/typing', async (request, response) => {
  const content = { room: Number(request.params.room), name: response.locals.name }
  await pool.query("SELECT pg_logical_emit_message(true, 'typing', $1)", [JSON.stringify(content)])
  response.json({})
})

api.put('/rooms/:room/members/:name', async (request, response) => {
  const { room, name } = request.params
  response.json(await write('INSERT INTO members VALUES ($1, $2) ON CONFLICT DO NOTHING', [room, name]))
})

api.delete('/rooms/:room/members/:name', async (request, response) => {
  const { room, name } = request.params
  response.json(await write('DELETE FROM members WHERE room_id = $1 AND user_name = $2', [room, name]))
})

// An error with a status is the request's, such as a body that is no JSON. Any other is for the log alone: Postgres' words name tables.
api.use((error, _request, response, _next) => {
  if (!error.status) console.error(error)
  response.status(error.status ?? 500).json({ error: error.status ? error.message : 'something went wrong' })
})

// The page, built as it is asked for. In production serve dist/, which npm run build makes.
const app = express().use('/api', api)
const server = createServer(app)
const vite = await createVite({ server: { middlewareMode: true, hmr: { server } } })
app.use(vite.middlewares)
server.listen(Number(PORT), '127.0.0.1')
