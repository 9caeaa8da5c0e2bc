-- The demo's shop: customers place orders of items.

CREATE TABLE customers (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL,
    email text NOT NULL UNIQUE,
    city  text NOT NULL,
    vip   boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    status      text NOT NULL DEFAULT 'new'
                CHECK (status IN ('new', 'paid', 'packed', 'shipped', 'delivered', 'cancelled')),
    amount      numeric(10, 2) NOT NULL DEFAULT 0,
    express     boolean NOT NULL DEFAULT false,
    note        text,
    placed_at   timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_items (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id   bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
    product    text NOT NULL,
    quantity   integer NOT NULL CHECK (quantity > 0),
    unit_price numeric(8, 2) NOT NULL
);

-- Support tickets of two tenants, which the second page shows side by side.
CREATE SCHEMA support;
CREATE TABLE support.tickets (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        text NOT NULL CHECK (tenant IN ('acme', 'globex')),
    subject       text NOT NULL,
    status        text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'waiting', 'solved')),
    internal_note text,
    updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON orders (status, updated_at);
CREATE INDEX ON order_items (order_id);
CREATE INDEX ON order_items (product);

-- What the log holds of a row before an UPDATE or DELETE. The default is the key alone: then nobody can tell whether an
-- order that is now 'shipped' was 'paid' before, and a live query for status = 'paid' would keep showing it. With FULL
-- the whole old row is logged, so that leaving a result is seen, at the price of more log for each UPDATE and DELETE.
ALTER TABLE orders REPLICA IDENTITY FULL;
ALTER TABLE order_items REPLICA IDENTITY FULL;
-- Who may see a ticket depends on its tenant, so the log has to tell the tenant of before.
ALTER TABLE support.tickets REPLICA IDENTITY FULL;
-- customers keeps the default: whoever subscribes to it by more than the key is refused with the cure, or says what becomes
-- of what the log leaves undecided.
