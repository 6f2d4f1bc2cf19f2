"""Drives a server through Open WebUI: its first user signs up, finds the model and chats, whole and streamed.

usage: open_webui_client.py build/bin/moraine models/tiny-r1
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import requests

from served import KEY, check, free_port, serving

START_SECONDS = 300


def start(url, port, folder):
    # It asks no hub for models and keeps everything in `folder`.
    settings = {
        "OPENAI_API_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": KEY,
        "ENABLE_OLLAMA_API": "false",
        "RAG_EMBEDDING_ENGINE": "openai",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "DATA_DIR": folder,
        "HOME": folder,
    }
    program = Path(sys.executable).parent / "open-webui"
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def answers(page):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            return requests.get(f"{page}/health", timeout=5).ok
        except requests.ConnectionError:
            time.sleep(1)
    return False


def chat(page, session, **more):
    messages = [{"role": "user", "content": "What is 348 + 275?"}]
    return session.post(f"{page}/api/chat/completions", json={"model": "tiny-r1", "messages": messages, **more}, timeout=60)


def main():
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        print(f"open-webui {version('open-webui')}, {url}", flush=True)
        port = free_port()
        page = f"http://127.0.0.1:{port}"
        webui = start(url, port, folder)
        try:
            check("starts", answers(page))
            session = requests.Session()
            user = {"name": "a", "email": "a@example.com", "password": "Correct-horse-7"}
            token = session.post(f"{page}/api/v1/auths/signup", json=user, timeout=60).json()["token"]
            session.headers["Authorization"] = f"Bearer {token}"
            models = [model["id"] for model in session.get(f"{page}/api/models", timeout=60).json()["data"]]
            check("models", "tiny-r1" in models, models)
            message = chat(page, session).json()["choices"][0]["message"]
            check("chat", "623" in message["content"] and "8+5=13" in message["reasoning_content"], repr(message["content"]))
            text = chat(page, session, stream=True).text
            check("stream", text.rstrip().endswith("data: [DONE]") and '"reasoning_content"' in text)
        finally:
            webui.terminate()
            webui.wait(timeout=30)


main()
