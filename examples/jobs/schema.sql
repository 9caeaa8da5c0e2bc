CREATE TYPE job_state AS ENUM ('queued', 'running', 'done');

CREATE TABLE jobs (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  title text NOT NULL CHECK (title <> ''),
  state job_state NOT NULL DEFAULT 'queued',
  progress int NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
  -- The worker's name is for people. Who has the job is told by the number of the attempt, which no two of them share.
  worker text,
  attempts int NOT NULL DEFAULT 0,
  -- Until then the job is its worker's. A worker that is dead renews nothing, and another one takes the job.
  lease timestamptz
);
CREATE INDEX ON jobs (id) WHERE state <> 'done';

-- Workers ask for jobs by their state, which is not the key: the log has to say which state an old row had.
ALTER TABLE jobs REPLICA IDENTITY FULL;
CREATE PUBLICATION walcast FOR TABLE jobs;

-- Gives a worker the oldest job that is nobody's, if there is one. No two workers get the same one.
CREATE FUNCTION take_job(taker text) RETURNS SETOF jobs LANGUAGE sql AS $$
  UPDATE jobs SET state = 'running', worker = taker, attempts = attempts + 1, lease = now() + interval '3 seconds'
  WHERE id = (
    SELECT id FROM jobs
    WHERE state = 'queued' OR (state = 'running' AND lease < now())
    ORDER BY id LIMIT 1
    FOR UPDATE SKIP LOCKED
  )
  RETURNING *
$$;

-- Notes how far a job is, and renews the lease. False if the worker was too slow, and the job was taken again meanwhile: the
-- attempt, as take_job returned it, is no longer the last one, whatever the workers are called.
CREATE FUNCTION report_job(job int, attempt int, percent int) RETURNS boolean LANGUAGE sql AS $$
  WITH reported AS (
    UPDATE jobs SET progress = percent,
                    state = CASE WHEN percent = 100 THEN 'done' ELSE 'running' END::job_state,
                    lease = CASE WHEN percent < 100 THEN now() + interval '3 seconds' END
    WHERE id = job AND attempts = attempt AND state = 'running'
    RETURNING id
  )
  SELECT EXISTS (SELECT FROM reported)
$$;
