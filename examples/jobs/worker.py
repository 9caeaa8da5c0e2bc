"""A worker in Python, over a plain websocket. Start as many as you like, on as many machines."""

import json
import os
import socket
import time

import psycopg
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

WALCAST_URL = os.environ.get("WALCAST_URL", "ws://127.0.0.1:8080")
# For people. In containers the process is mostly 1, and the host tells them apart.
NAME = f"python {socket.gethostname()} {os.getpid()}"
# The pause between two looks without the bell, in seconds. No row changes when the lease of a dead worker ends, and the bell may
# ring a moment before the job is visible here.
LOOK = 1

database = None


def doorbell():
    """Yields whenever there may be a job: one is queued, the connection is there again, or it is time to look."""
    subscribe = {"type": "subscribe", "id": "jobs", "table": "jobs", "where": "state = 'queued'", "columns": ["id"]}
    while True:
        try:
            with connect(f"{WALCAST_URL}/v1/stream") as stream:
                stream.send(json.dumps(subscribe))
                while True:
                    try:
                        message = json.loads(stream.recv(timeout=LOOK))
                        if message["type"] == "error":
                            # "internal" passes, as while Postgres restarts. Any other error is a mistake.
                            if message["code"] == "internal":
                                raise OSError(message["message"])
                            raise SystemExit(message["message"])
                        if message["type"] == "subscribed":
                            print("ready", flush=True)
                    except TimeoutError:
                        pass
                    yield
        except (OSError, WebSocketException) as error:
            print(f"walcast is away: {error}", flush=True)
            time.sleep(LOOK)
            yield


def select(statement, *values):
    """The first row of a statement, None if there is none. A connection that was lost is made again."""
    global database
    if database is None or database.closed:
        database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return database.execute(statement, values).fetchone()


def take():
    """The oldest job that is nobody's: its id, the number of this attempt, and how far it is; None if there is none."""
    return select("SELECT id, attempts, progress FROM take_job(%s)", NAME)


def work(job, attempt, progress):
    """Works, a tenth at a time. The job goes on where the worker before came to."""
    while progress < 100:
        time.sleep(0.4)  # Your work.
        progress = min(100, progress + 10)
        (is_ours,) = select("SELECT report_job(%s, %s, %s)", job, attempt, progress)
        if not is_ours:
            return


for _ in doorbell():
    try:
        while job := take():
            work(*job)
    except psycopg.OperationalError as error:
        # The job that it had is taken again once its lease ends.
        print(f"Postgres is away: {error}", flush=True)
