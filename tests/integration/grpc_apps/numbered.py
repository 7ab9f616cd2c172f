"""A worker that notes each message it begins and answers with it after a moment: nobody can run a call twice unseen."""

import os
import time

from twisted_rr.worker import Worker

worker = Worker()
NOTES = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def say(message, context):
    os.write(NOTES, message + b"\n")
    time.sleep(int(message) % 40 / 1000)
    return message


worker.grpc.method("echo.Echo/Say", say)
worker.run(threads=32)
