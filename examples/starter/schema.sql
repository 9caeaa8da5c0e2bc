CREATE TABLE tasks (
  id uuid PRIMARY KEY,
  title text NOT NULL CHECK (title <> ''),
  done boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Live queries that look at other columns than the key need this.
ALTER TABLE tasks REPLICA IDENTITY FULL;
CREATE PUBLICATION walcast FOR TABLE tasks;

INSERT INTO tasks (id, title, done, created_at) VALUES
  (gen_random_uuid(), 'Start Postgres and walcast', true, now() - interval '1 minute'),
  (gen_random_uuid(), 'Open this page in two windows', false, now());
