"""The dashboard where each message to the browser costs 10 ms more, as on a busy machine."""

import time

from streamlit.runtime.scriptrunner.script_runner import ScriptRunner

from apps.dashboard import dashboard

_send = getattr(ScriptRunner, "at_once", ScriptRunner._enqueue_forward_msg)  # as Streamlit has it


def _send_slowly(runner, message) -> None:
    time.sleep(0.01)
    _send(runner, message)


ScriptRunner.at_once = _send
ScriptRunner._enqueue_forward_msg = _send_slowly
dashboard()
