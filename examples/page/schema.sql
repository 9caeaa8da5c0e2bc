CREATE TABLE guests (
  id serial PRIMARY KEY,
  name text NOT NULL,
  arrived boolean NOT NULL DEFAULT false
);

-- The page looks at another column than the key, so the log has to say what old rows had in it.
ALTER TABLE guests REPLICA IDENTITY FULL;
CREATE PUBLICATION walcast FOR TABLE guests;

INSERT INTO guests (name, arrived) VALUES ('Ada', true), ('Edgar', true), ('Grace', false);
