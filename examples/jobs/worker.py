"""A worker in Python, over a plain websocket. Start as many as you like, on as many machines."""

import json
import os
import time

import psycopg
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

WALCAST_URL = os.environ.get("WALCAST_URL", "ws://127.0.0.1:8080")
NAME = f"python {os.getpid()}"
# How often to look for jobs whose worker died, in seconds: no row changes when a lease ends.
LOOK = 1

database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def doorbell():
    """Yields whenever there may be a job: one is queued, the connection is there again, or it is time to look."""
    subscribe = {"type": "subscribe", "id": "jobs", "table": "jobs", "where": "state = 'queued'", "columns": ["id"]}
    while True:
        try:
            with connect(f"{WALCAST_URL}/v1/stream") as socket:
                socket.send(json.dumps(subscribe))
                while True:
                    try:
                        message = json.loads(socket.recv(timeout=LOOK))
                        if message["type"] == "error":
                            raise SystemExit(message["message"])
                    except TimeoutError:
                        pass
                    yield
        except (OSError, WebSocketException) as error:
            print(f"walcast is away: {error}", flush=True)
            time.sleep(LOOK)
            yield


def take():
    """The oldest job that is nobody's, with how far it is; None if there is none."""
    return database.execute("SELECT id, progress FROM take_job(%s)", [NAME]).fetchone()


def work(job, progress):
    """Works, a tenth at a time. The job goes on where the worker before came to."""
    while progress < 100:
        time.sleep(0.4)  # Your work.
        progress += 10
        (is_ours,) = database.execute("SELECT report_job(%s, %s, %s)", [job, NAME, progress]).fetchone()
        if not is_ours:
            return


for _ in doorbell():
    while job := take():
        work(*job)
