// The page, and the one thing that it may write.
import express from 'express'
import pg from 'pg'

const { PORT = '5173', DATABASE_URL } = process.env
const pool = new pg.Pool({ connectionString: DATABASE_URL })
// A connection that is lost while it is idle, as when Postgres restarts. Without a listener it would end the process.
pool.on('error', (error) => console.error(`Postgres is away: ${error.message}`))
const app = express().use(express.static('public'), express.json())

app.post('/jobs', async (request, response) => {
  await pool.query('INSERT INTO jobs (title) VALUES ($1)', [request.body.title])
  const { rows } = await pool.query('SELECT pg_current_wal_insert_lsn() AS position')
  response.json(rows[0])
})

app.listen(Number(PORT), '127.0.0.1')
