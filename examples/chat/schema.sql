CREATE TABLE users (name text PRIMARY KEY);
CREATE TABLE rooms (id int PRIMARY KEY, name text NOT NULL);

CREATE TABLE members (
  room_id int REFERENCES rooms,
  user_name text REFERENCES users,
  PRIMARY KEY (room_id, user_name)
);

CREATE TABLE messages (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  room_id int NOT NULL REFERENCES rooms,
  author text NOT NULL REFERENCES users,
  text text NOT NULL CHECK (length(text) BETWEEN 1 AND 2000),
  sent_at timestamptz NOT NULL DEFAULT now(),
  -- The page's own name for the message: it knows its own again by it, and sending it twice stores it once.
  key uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()
);
CREATE INDEX ON messages (room_id, id);

-- Queries and policies look at the room, which is not the key: the log has to say in which room an old row was.
ALTER TABLE messages REPLICA IDENTITY FULL;
CREATE PUBLICATION walcast FOR TABLE rooms, members, messages;

INSERT INTO users VALUES ('Ann'), ('Bob'), ('Cleo');
INSERT INTO rooms VALUES (1, 'Kitchen'), (2, 'Garden'), (3, 'Attic');
INSERT INTO members VALUES (1, 'Ann'), (1, 'Bob'), (1, 'Cleo'), (2, 'Ann'), (2, 'Bob'), (3, 'Cleo');

INSERT INTO messages (room_id, author, text, sent_at)
SELECT 1, (ARRAY['Ann', 'Bob', 'Cleo'])[1 + n % 3],
       (ARRAY['The kettle is on.', 'Who wants tea?', 'Two sugars, please.', 'There is cake left.', 'Not any more.'])[1 + n % 5],
       now() - (101 - n) * interval '4 minutes'
FROM generate_series(1, 100) AS n;
INSERT INTO messages (room_id, author, text, sent_at) VALUES
  (2, 'Bob', 'The tomatoes are ripe.', now() - interval '1 hour'),
  (2, 'Ann', 'All of them?', now() - interval '59 minutes'),
  (3, 'Cleo', 'Note to self: fix the window.', now() - interval '2 days');
