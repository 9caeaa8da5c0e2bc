-- The demo's traffic, in a schema of its own. traffic.seed() fills the shop once; traffic.step() is one transaction of
-- its everyday life, to be called ten to twenty times a second. The shop stays bounded: once orders are over they are
-- deleted, and the more are open the more each step moves on.

CREATE SCHEMA traffic;

CREATE TABLE traffic.products (product text PRIMARY KEY, price numeric(8, 2) NOT NULL);
INSERT INTO traffic.products VALUES
    ('teapot', 34.00), ('tea, 250 g', 12.50), ('coffee, 1 kg', 21.90), ('espresso cup', 8.40), ('kettle', 59.00),
    ('grinder', 129.00), ('french press', 27.50), ('paper filters', 4.20), ('scale', 39.90), ('milk jug', 18.00),
    ('espresso machine', 449.00), ('descaler', 9.80);

CREATE FUNCTION traffic.pick(choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;

CREATE FUNCTION traffic.add_customer() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first text := traffic.pick('{Ada,Bela,Chen,Dara,Emil,Fatou,Gita,Hana,Ines,Jun,Kofi,Lena,Mira,Noor,Olga,Pau}');
    last  text := traffic.pick('{Abe,Brandt,Costa,Diallo,Eriksen,Fischer,Gupta,Horvat,Ito,Jensen,Kaya,Lopez,Moreau}');
    customer bigint;
BEGIN
    INSERT INTO customers (name, email, city, vip)
    VALUES (first || ' ' || last,
            lower(first || '.' || last) || '.' || substr(md5(random()::text), 1, 6) || '@example.com',
            traffic.pick('{Accra,Berlin,Lisbon,Mumbai,Oslo,Porto,Seoul,Turin,Zagreb}'),
            random() < 0.15)
    RETURNING id INTO customer;
    RETURN customer;
END $$;

-- A new order of one to four items: with the sum of its items in the order, that is two to five rows at once.
CREATE FUNCTION traffic.place_order() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    buyer bigint;
    placed bigint;
BEGIN
    SELECT id INTO buyer FROM customers ORDER BY random() LIMIT 1;
    INSERT INTO orders (customer_id, express, note)
    VALUES (buyer, random() < 0.2,
            CASE WHEN random() < 0.1 THEN traffic.pick('{"leave at the door","gift wrap, please","ring twice"}') END)
    RETURNING id INTO placed;
    INSERT INTO order_items (order_id, product, quantity, unit_price)
    SELECT placed, product, 1 + floor(random() * random() * 5)::int, price
    FROM traffic.products ORDER BY random() LIMIT 1 + floor(random() * 4)::int;
    UPDATE orders SET amount = (SELECT sum(quantity * unit_price) FROM order_items WHERE order_id = placed)
    WHERE id = placed;
END $$;

-- Moves the orders on that have waited longest; the more are open, the more.
CREATE FUNCTION traffic.advance_orders() RETURNS void LANGUAGE sql AS $$
    UPDATE orders
    SET status = CASE status WHEN 'new' THEN 'paid' WHEN 'paid' THEN 'packed' WHEN 'packed' THEN 'shipped'
                 ELSE 'delivered' END,
        updated_at = now()
    WHERE id IN (
        SELECT id FROM orders TABLESAMPLE BERNOULLI (30)
        WHERE status IN ('new', 'paid', 'packed', 'shipped')
        ORDER BY updated_at
        LIMIT (SELECT 1 + count(*) / 150 FROM orders WHERE status IN ('new', 'paid', 'packed', 'shipped')))
$$;

CREATE FUNCTION traffic.cancel_order() RETURNS void LANGUAGE sql AS $$
    UPDATE orders SET status = 'cancelled', updated_at = now()
    WHERE id = (SELECT id FROM orders WHERE status IN ('new', 'paid') ORDER BY random() LIMIT 1)
$$;

-- Deletes orders that are over, the oldest first, all but three hundred of them. Their items go with them.
CREATE FUNCTION traffic.archive_orders() RETURNS void LANGUAGE sql AS $$
    DELETE FROM orders WHERE id IN (
        SELECT id FROM orders WHERE status IN ('delivered', 'cancelled')
        ORDER BY updated_at DESC, id DESC OFFSET 300 LIMIT 40)
$$;

CREATE FUNCTION traffic.touch_customer() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.1 AND (SELECT count(*) FROM customers) < 400 THEN
        PERFORM traffic.add_customer();
    ELSIF random() < 0.5 THEN
        UPDATE customers SET vip = NOT vip WHERE id = (SELECT id FROM customers ORDER BY random() LIMIT 1);
    ELSE
        UPDATE customers SET city = traffic.pick('{Accra,Berlin,Lisbon,Mumbai,Oslo,Porto,Seoul,Turin,Zagreb}')
        WHERE id = (SELECT id FROM customers ORDER BY random() LIMIT 1);
    END IF;
END $$;

-- The rare big transaction: a product's price changes, in every order that is not paid yet or still being packed, and
-- so do the sums of those orders. A few hundred rows, seen by every client together or not at all.
CREATE FUNCTION traffic.change_price() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed text;
BEGIN
    UPDATE traffic.products SET price = round(price * (0.95 + random()::numeric * 0.1), 2)
    WHERE product = (SELECT product FROM traffic.products ORDER BY random() LIMIT 1)
    RETURNING product INTO changed;
    UPDATE order_items i SET unit_price = p.price
    FROM orders o, traffic.products p
    WHERE i.product = changed AND p.product = changed AND o.id = i.order_id
      AND o.status IN ('new', 'paid', 'packed', 'shipped');
    UPDATE orders o SET amount = s.amount, updated_at = now()
    FROM (SELECT order_id, sum(quantity * unit_price) AS amount FROM order_items GROUP BY order_id) s
    WHERE s.order_id = o.id AND s.amount <> o.amount;
END $$;

-- Work on the tickets of two tenants: they are opened, answered, handed over from one tenant to the other, and deleted
-- some time after they are solved.
CREATE FUNCTION traffic.handle_ticket() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    dice double precision := random();
    existing bigint := (SELECT count(*) FROM support.tickets);
BEGIN
    IF existing < 6 OR dice < 0.2 AND existing < 16 THEN
        INSERT INTO support.tickets (tenant, subject, internal_note)
        VALUES (traffic.pick('{acme,globex}'),
                traffic.pick('{"kettle does not boil","parcel is late","wrong grinder","refund for a teapot","invoice, please","scale shows nothing"}'),
                CASE WHEN random() < 0.5 THEN 'asked before' END);
    ELSIF dice < 0.45 THEN
        UPDATE support.tickets SET tenant = CASE tenant WHEN 'acme' THEN 'globex' ELSE 'acme' END, updated_at = now()
        WHERE id = (SELECT id FROM support.tickets WHERE status <> 'solved' ORDER BY random() LIMIT 1);
    ELSIF dice < 0.75 THEN
        UPDATE support.tickets SET status = CASE status WHEN 'open' THEN 'waiting' ELSE traffic.pick('{open,solved}') END,
                           updated_at = now()
        WHERE id = (SELECT id FROM support.tickets WHERE status <> 'solved' ORDER BY random() LIMIT 1);
    ELSIF dice < 0.9 THEN
        -- No agent sees the column, so nobody hears of this.
        UPDATE support.tickets SET internal_note = traffic.pick('{"a regular","be generous","see the other ticket"}')
        WHERE id = (SELECT id FROM support.tickets ORDER BY random() LIMIT 1);
    ELSE
        DELETE FROM support.tickets WHERE id = (SELECT id FROM support.tickets WHERE status = 'solved' ORDER BY updated_at LIMIT 1);
    END IF;
END $$;

-- One transaction.
CREATE FUNCTION traffic.step() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    dice double precision := random();
BEGIN
    IF dice < 0.35 THEN PERFORM traffic.place_order();
    ELSIF dice < 0.80 THEN PERFORM traffic.advance_orders();
    ELSIF dice < 0.84 THEN PERFORM traffic.cancel_order();
    ELSIF dice < 0.88 THEN PERFORM traffic.archive_orders();
    ELSIF dice < 0.95 THEN PERFORM traffic.touch_customer();
    ELSIF dice < 0.997 THEN PERFORM traffic.handle_ticket();
    ELSE PERFORM traffic.change_price();
    END IF;
END $$;

-- A shop that has been open for a while: call it once.
CREATE FUNCTION traffic.seed() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM traffic.add_customer() FROM generate_series(1, 120);
    PERFORM traffic.place_order() FROM generate_series(1, 500);
    PERFORM traffic.handle_ticket() FROM generate_series(1, 12);
    UPDATE orders SET status = traffic.pick('{new,paid,packed,shipped,delivered}'),
                      placed_at = now() - random() * interval '3 days';
END $$;
