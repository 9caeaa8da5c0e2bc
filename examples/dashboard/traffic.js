// Customers who order, pay, and get what they ordered; or do not.
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })
// A connection that is lost while it is idle, as when Postgres restarts. Without a listener it would end the process.
pool.on('error', (error) => console.error(`Postgres is away: ${error.message}`))

const ORDER = `
  INSERT INTO orders (customer, cents)
  SELECT (ARRAY['Ada', 'Edgar', 'Grace', 'Alan', 'Barbara'])[1 + floor(random() * 5)], 900 + floor(random() * 12000)
  FROM generate_series(1, $1)`

const GO_ON = `
  UPDATE orders
  SET status = CASE WHEN status = 'paid' THEN 'shipped' WHEN random() < 0.9 THEN 'paid' ELSE 'cancelled' END::order_status
  WHERE id IN (SELECT id FROM orders WHERE status IN ('open', 'paid') AND placed_at < now() - interval '4 seconds' ORDER BY random() LIMIT 2)`

for (;;) {
  try {
    // Business comes in waves.
    await pool.query(ORDER, [Math.round(1.5 + Math.sin(Date.now() / 12_000))])
    await pool.query(GO_ON)
  } catch (error) {
    console.error(`no orders: ${error.message}`)
  }
  await new Promise((resolve) => setTimeout(resolve, 700))
}
