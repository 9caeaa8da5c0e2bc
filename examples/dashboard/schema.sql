CREATE TYPE order_status AS ENUM ('open', 'paid', 'shipped', 'cancelled');

CREATE TABLE orders (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer text NOT NULL,
  status order_status NOT NULL DEFAULT 'open',
  cents int NOT NULL,
  placed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON orders (placed_at);

-- Bars ask for orders by their time, which is not the key: the log has to say when an old row was placed.
ALTER TABLE orders REPLICA IDENTITY FULL;
CREATE PUBLICATION walcast FOR TABLE orders;

INSERT INTO orders (customer, status, cents, placed_at)
SELECT (ARRAY['Ada', 'Edgar', 'Grace', 'Alan', 'Barbara'])[1 + n % 5],
       (ARRAY['shipped', 'paid', 'shipped', 'cancelled', 'shipped', 'open', 'paid'])[1 + n % 7]::order_status,
       900 + (n * 7919) % 12000,
       now() - (150 - n) * interval '1 second'
FROM generate_series(1, 150) AS n;
