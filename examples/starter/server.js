// The server: the page, and the one route that writes. The page reads from walcast.
import { createServer } from 'node:http'
import express from 'express'
import pg from 'pg'

const { DATABASE_URL, PORT, NODE_ENV } = process.env
const pool = new pg.Pool({ connectionString: DATABASE_URL })
// A connection that is lost while it is idle, as when Postgres restarts. Without a listener it would end the process.
pool.on('error', (error) => console.error(`Postgres is away: ${error.message}`))
const app = express()
const server = createServer(app)

// Check here who may write what. Answers with the position of the log after the write, which the page waits for.
app.post('/api/tasks', express.json(), async (request, response) => {
  const upsert = `
    INSERT INTO tasks (id, title, done)
    SELECT id, title, done FROM jsonb_to_recordset($1) AS task (id uuid, title text, done boolean)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, done = excluded.done`
  await pool.query(upsert, [JSON.stringify(request.body)])
  const { rows } = await pool.query('SELECT pg_current_wal_insert_lsn() AS position')
  response.json(rows[0])
})

if (NODE_ENV === 'production') app.use(express.static('dist'))
else {
  const { createServer: createVite } = await import('vite')
  app.use((await createVite({ server: { middlewareMode: true, hmr: { server } } })).middlewares)
}
server.listen(Number(PORT), '127.0.0.1')
